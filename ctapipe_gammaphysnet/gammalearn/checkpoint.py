"""Read the weights in a checkpoint of gammalearn, without running code from it."""

import math
import zipfile
from pathlib import Path

import numpy as np

from .errors import ImportedModelError
from .pickled import Tensor, read_pickle

__all__ = ["read_checkpoint"]

#: Seven times a γ-PhysNet DA with the state of its optimizer.
MAX_BYTES = 2**28
MAX_TENSORS = 10_000
#: Entries of a checkpoint that are not the network.
_NOT_THE_NETWORK = ("loss_balancing.", "train_metrics.", "val_metrics.")


def read_checkpoint(
    path: str | Path,
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Read the network's weights from a checkpoint.

    Nothing in the file is run, and the weights take no more memory than the file. A
    file with anything but numbers, text and plain containers of them is refused.

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
    if not path.is_file():
        raise ImportedModelError(f"{path} is not a file: check the path")
    size = path.stat().st_size
    try:
        if size > MAX_BYTES:
            raise ImportedModelError(
                f"it has {size} bytes; a checkpoint needs less than {MAX_BYTES}"
            )
        if not zipfile.is_zipfile(path):
            raise ImportedModelError(
                "it is not a checkpoint of a current PyTorch (a zip archive). If an "
                "old one wrote it, load it there and save it again"
            )
        with zipfile.ZipFile(path) as archive:
            _check_archive(archive, size)
            return _read(archive, size)
    except ImportedModelError as error:
        raise ImportedModelError(f"{path}: {error}") from None
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError) as error:
        raise ImportedModelError(f"{path} cannot be read: {error}") from None


def _check_archive(archive, file_size):
    """Check that the entries take no more memory than the file."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ImportedModelError("it is compressed, which PyTorch never does")
    size = sum(entry.file_size for entry in entries)
    if size > file_size:
        raise ImportedModelError(
            f"its entries take {size} bytes, more than the file: they overlap"
        )


def _read(archive, file_size):
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ImportedModelError(f"it has {len(pickles)} entries data.pkl, not one")
    folder = pickles[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise ImportedModelError("its bytes are not in little-endian order")
    content = read_pickle(archive.read(pickles[0]))
    record = {}
    if isinstance(content, dict) and "state_dict" in content:
        record = _record(content)
        content = content["state_dict"]
    tensors = _network(content)
    _check_tensors(tensors, file_size)
    return {
        name: _array(archive, folder, name, tensor) for name, tensor in tensors.items()
    }, record


def _record(content):
    names = {"epoch": int, "global_step": int, "pytorch-lightning_version": str}
    return {
        name: content[name]
        for name, kind in names.items()
        if type(content.get(name)) is kind
    }


def _network(content):
    """The entries of the network, without the prefix of Lightning's module."""
    if not (
        isinstance(content, dict)
        and 0 < len(content) <= MAX_TENSORS
        and all(
            isinstance(name, str) and isinstance(value, Tensor)
            for name, value in content.items()
        )
    ):
        raise ImportedModelError("it has no state dict of tensors")
    network = {k[4:]: v for k, v in content.items() if k.startswith("net.")}
    if not network:
        return content
    unknown = [k for k in content if not k.startswith(("net.", *_NOT_THE_NETWORK))]
    if unknown:
        raise ImportedModelError(f"its entry {unknown[0]!r} is unknown")
    return network


def _check_tensors(tensors, file_size):
    total = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in ("float32", "int64", "int32"):
            raise ImportedModelError(
                f"its {name!r} has the type {tensor.dtype}; only float32 and "
                "integers can be imported"
            )
        total += math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
        # A tensor can repeat a few bytes of the file without end.
        if total > file_size:
            raise ImportedModelError(
                f"up to {name!r}, its tensors take {total} bytes, more than the file"
            )


def _array(archive, folder, name, tensor):
    """Read the numbers of a tensor."""
    dtype = np.dtype(tensor.dtype).newbyteorder("<")
    try:
        array = np.ndarray(
            tensor.shape,
            dtype,
            archive.read(f"{folder}data/{tensor.key}"),
            tensor.offset * dtype.itemsize,
            [step * dtype.itemsize for step in tensor.strides],
        )
    except KeyError:
        raise ImportedModelError(f"the numbers of its {name!r} are missing") from None
    except (OverflowError, TypeError, ValueError):
        raise ImportedModelError(
            f"its {name!r} has the shape {tensor.shape}, which is more than the file "
            "holds for it"
        ) from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ImportedModelError(f"its {name!r} is not finite")
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
