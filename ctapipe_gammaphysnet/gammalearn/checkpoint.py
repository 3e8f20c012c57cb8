"""Read the weights in a checkpoint of gammalearn, without running code from it."""

import math
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np

from .errors import ImportedModelError

__all__ = ["read_checkpoint"]

#: Far above any γ-PhysNet with the state of its optimizer.
MAX_BYTES = 2 * 1024**3
MAX_TENSORS = 10_000
#: Entries of a checkpoint that are not the network.
_NOT_THE_NETWORK = ("loss_balancing.", "train_metrics.", "val_metrics.")


def read_checkpoint(
    path: str | Path,
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Read the network's weights from a checkpoint.

    PyTorch reads it with ``weights_only=True``: a file with anything but numbers, text
    and plain containers of them is refused before its code could run.

    Parameters
    ----------
    path : str or pathlib.Path
        A checkpoint that gammalearn (Lightning) wrote, or the state dict of its
        network, written by ``torch.save``.

    Returns
    -------
    weights : dict of str to numpy.ndarray
        The weights by gammalearn's names within its network: float32 or int64.
    record : dict of str to object
        ``epoch``, ``global_step`` and ``pytorch-lightning_version``, if it has them.

    Raises
    ------
    ImportedModelError
        If it cannot be read, has code, or is not the checkpoint of one network.
    """
    path = Path(path)
    _check_archive(path)
    content = _load(path)
    record = {}
    if isinstance(content, dict) and "state_dict" in content:
        record = _record(content)
        content = content["state_dict"]
    tensors = _network(path, content)
    _check_tensors(path, tensors)
    return {name: _array(value) for name, value in tensors.items()}, record


def _check_archive(path):
    """Check that the file takes no more memory than its size, and that is limited."""
    try:
        if not zipfile.is_zipfile(path):
            if not path.is_file():
                raise ImportedModelError(f"{path} is not a file: check the path")
            raise ImportedModelError(
                f"{path} is not a checkpoint of a current PyTorch (a zip archive). If "
                "an old one wrote it, load it there and save it again"
            )
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise ImportedModelError(f"{path} cannot be read: {error}") from None
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ImportedModelError(f"{path} is compressed, which PyTorch never does")
    size = sum(entry.file_size for entry in entries)
    if size > min(MAX_BYTES, path.stat().st_size):
        raise ImportedModelError(
            f"{path} holds {size} bytes, more than its own size or {MAX_BYTES}"
        )


def _load(path):
    import torch

    try:
        with warnings.catch_warnings():
            # What PyTorch warns of, such as sparse tensors, is refused later.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Whatever a damaged or hostile file makes PyTorch raise.
        text = str(error)
        found = re.search(r"GLOBAL ([\w.]+)", text)
        if found:
            reason = f"it would run {found[1]}. No code of it was run"
        else:
            reason = f"{type(error).__name__}: {text.splitlines()[-1:]}"[:300]
        raise ImportedModelError(
            f"{path} is not a checkpoint with numbers only: {reason}"
        ) from None


def _record(content):
    names = {"epoch": int, "global_step": int, "pytorch-lightning_version": str}
    return {
        name: content[name]
        for name, kind in names.items()
        if type(content.get(name)) is kind
    }


def _network(path, content):
    """The entries of the network, without the prefix of Lightning's module."""
    import torch

    if not (
        isinstance(content, dict)
        and 0 < len(content) <= MAX_TENSORS
        and all(isinstance(k, str) and torch.is_tensor(v) for k, v in content.items())
    ):
        raise ImportedModelError(f"{path} has no state dict of tensors")
    network = {k[4:]: v for k, v in content.items() if k.startswith("net.")}
    if not network:
        return dict(content)
    unknown = [k for k in content if not k.startswith(("net.", *_NOT_THE_NETWORK))]
    if unknown:
        raise ImportedModelError(f"{path}: the entry {unknown[0]!r} is unknown")
    return network


def _check_tensors(path, tensors):
    import torch

    total = 0
    for name, value in tensors.items():
        if value.layout is not torch.strided or value.device.type != "cpu":
            raise ImportedModelError(f"{path}: {name!r} is not a plain tensor")
        if value.dtype not in (torch.float32, torch.int64, torch.int32):
            raise ImportedModelError(
                f"{path}: {name!r} has the type {value.dtype}; only float32 and "
                "integers can be imported"
            )
        total += math.prod(value.shape) * value.element_size()
        # A tensor can repeat a few bytes on the disk without end.
        if total > path.stat().st_size:
            raise ImportedModelError(
                f"{path}: up to {name!r}, its tensors take {total} bytes, more than "
                "the file"
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ImportedModelError(f"{path}: {name!r} is not finite")


def _array(value):
    array = value.detach().numpy()
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
