"""The model file: weights and model card in one safetensors file.

A model file holds numbers and text only; reading one runs no code from it. The
metadata of the safetensors file has two entries: ``card``, the model card as JSON, and
``sha256``, a digest over the card and all weights. Tensors are named
``network{i}.member{j}.{parameter}``, where i and j count the card's networks and their
members from 0.

``ctapipe-show-gammaphysnet FILE`` verifies a file and prints its card.
"""

import errno
import hashlib
import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..network.lattice import LatticeError
from .card import (
    CardError,
    ModelCard,
    NewerFormatError,
    card_from_json,
    card_to_json,
)
from .card_text import incomplete_members
from .errors import ModelFileError
from .header import (
    FEW_TENSORS,
    MAX_TENSORS,
    HeaderError,
    Tensor,
    check_layout,
    count_tensors,
    first_metadata,
    parse_header,
)

__all__ = [
    "Model",
    "read_card",
    "read_model",
    "warn_incomplete",
    "write_model",
]

MAX_HEADER_BYTES = 16 * 1024**2

_DTYPES = {np.dtype("<f4"): "F32", np.dtype("<i8"): "I64"}
_CHUNK_BYTES = 1024**2
_DAMAGED = "the file was changed or damaged after it was written: get a fresh copy"
_NO_MODEL_FILE = (
    "it was changed or damaged after it was written, or is not a model file"
)
#: First bytes of files that could be mistaken for a model file.
_LOOKS_LIKE = (
    (re.compile(rb"\x80[\x02-\x05]"), "a Python pickle"),
    (re.compile(rb"PK\x03\x04"), "a zip archive, such as torch.save writes"),
    (re.compile(rb"\x89HDF\r\n\x1a\n"), "an HDF5 file"),
)


@dataclass(frozen=True, eq=False)
class Model:
    """A model card and the weights it describes.

    Attributes
    ----------
    card : ModelCard
        The model card.
    weights : tuple
        For each network of the card, a tuple with one dict per member, from parameter
        names to arrays: float32, or int64 for names that end in
        ``num_batches_tracked``.
    """

    card: ModelCard
    weights: tuple[tuple[dict[str, np.ndarray], ...], ...]


class _Content(NamedTuple):
    card: ModelCard
    tensors: dict[str, Tensor]


def _read_header(path, file):
    """Return the header's text and the positions where data begins and ends."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) == 8 and length <= min(MAX_HEADER_BYTES, size - 8):
        try:
            return file.read(length).decode("ascii"), 8 + length, size
        except UnicodeDecodeError:
            raise ModelFileError(
                f"{path}: its header is not ASCII text: {_NO_MODEL_FILE}"
            ) from None
    for pattern, kind in _LOOKS_LIKE:
        if pattern.match(start):
            raise ModelFileError(
                f"{path} looks like {kind}, not like a model file; it was not opened. "
                "Give a file that ctapipe_gammaphysnet wrote"
            )
    if size < 8:
        raise ModelFileError(
            f"{path} is {'empty' if size == 0 else f'only {size} bytes long'}: "
            "it is cut short, or is not a model file"
        )
    raise ModelFileError(
        f"{path}: its header would be {length} bytes long, in a file of {size} bytes "
        f"and with at most {MAX_HEADER_BYTES} allowed: {_NO_MODEL_FILE}"
    )


def _chunks(file, begin, end):
    file.seek(begin)
    for position in range(begin, end, _CHUNK_BYTES):
        size = min(_CHUNK_BYTES, end - position)
        chunk = file.read(size)
        if len(chunk) != size:
            raise OSError(errno.EIO, "the file became shorter while it was read")
        yield chunk


def _digest(card_text, tensors):
    """Return a model's digest, and the name of a tensor that is not finite, or None.

    `tensors` yields name, dtype, shape and an iterable of bytes, sorted by name. The
    text's length comes first and each shape before its bytes, so that no two models
    feed the same bytes to the digest.
    """
    digest = hashlib.sha256(f"{len(card_text)}\n{card_text}\n".encode())
    not_finite = None
    for name, dtype, shape, chunks in tensors:
        digest.update(f"{json.dumps([name, dtype, shape])}\n".encode())
        for chunk in chunks:
            digest.update(chunk)
            if dtype == "F32" and not np.isfinite(np.frombuffer(chunk, "<f4")).all():
                not_finite = not_finite or name
    return digest.hexdigest(), not_finite


def _check_finite(path, not_finite):
    if not_finite is not None:
        raise ModelFileError(
            f"{path}: the weights {not_finite!r} are not all finite: the training "
            "failed. Train again"
        )


def _check_count(text):
    """Refuse a header with many tensors that the card does not describe.

    They are only counted: parsing a hundred thousand of them takes seconds.
    """
    n_tensors = count_tensors(text)
    if n_tensors <= FEW_TENSORS:
        return
    if n_tensors > MAX_TENSORS:
        raise HeaderError(f"it has more than {MAX_TENSORS} tensors")
    try:
        card = card_from_json(first_metadata(text).get("card", ""))
    except NewerFormatError:
        raise
    except CardError:
        raise HeaderError(f"it has {n_tensors} tensors, but no valid card") from None
    described = sum(
        len(network.members) * network.network.n_tensors for network in card.networks
    )
    if n_tensors != described:
        raise HeaderError(
            f"it has {n_tensors} tensors, but its card describes {described}"
        )


def _read_content(path, file):
    """Verify an open file as far as possible without building a network."""
    text, begin, end = _read_header(path, file)
    try:
        _check_count(text)
        metadata, tensors = parse_header(text)
    except NewerFormatError as err:
        raise ModelFileError(f"{path} {err}") from None
    except HeaderError as err:
        raise ModelFileError(
            f"{path}: its header cannot be used: {err}: {_NO_MODEL_FILE}"
        ) from None
    if not metadata.keys() & {"card", "sha256"}:
        raise ModelFileError(
            f"{path} is a safetensors file without a model card. Give a file that "
            "ctapipe_gammaphysnet wrote"
        )
    if metadata.keys() != {"card", "sha256"}:
        raise ModelFileError(f"{path}: its metadata is not complete: {_DAMAGED}")

    # A newer format may change everything that follows, so it is reported first. Other
    # errors of the card are reported only if the card is as it was written.
    problem = card = None
    try:
        card = card_from_json(metadata["card"])
    except NewerFormatError as err:
        raise ModelFileError(f"{path} {err}") from None
    except CardError as err:
        problem = err
    try:
        check_layout(tensors, end - begin)
    except HeaderError as err:
        raise ModelFileError(
            f"{path}: its header does not fit its data: {err}: {_DAMAGED}"
        ) from None
    sha256, not_finite = _digest(
        metadata["card"],
        (
            (name, t.dtype, t.shape, _chunks(file, begin + t.begin, begin + t.end))
            for name, t in sorted(tensors.items())
        ),
    )
    if sha256 != metadata["sha256"]:
        raise ModelFileError(f"{path}: its SHA-256 is not the stored one: {_DAMAGED}")
    if problem is not None:
        raise ModelFileError(
            f"{path}: its model card cannot be used: {problem}. Ask who wrote the file"
        )
    _check_finite(path, not_finite)
    return _Content(card, tensors)


def _read_path(path):
    try:
        if not path.exists():
            raise ModelFileError(f"{path} does not exist: check the path")
        if not path.is_file():
            raise ModelFileError(f"{path} is not a file: give the path of a model file")
        with open(path, "rb") as file:
            return _read_content(path, file)
    except OSError as err:
        raise ModelFileError(f"{path} cannot be read: {err.strerror}") from err


def _check_fits(path, card, tensors):
    """Raise unless names, dtypes and shapes are those of the card's networks.

    `tensors` is a dict from names to tuples of dtype and shape.
    """
    from ..network import parameter_shapes

    unknown = set(tensors)
    for i, network in enumerate(card.networks):
        telescope = network.telescope
        try:
            shapes = parameter_shapes(network.network, telescope.camera)
        except LatticeError as err:
            raise ModelFileError(
                f"{path}: no network can be built for {telescope.type}: {err}"
            ) from err
        for j in range(len(network.members)):
            for parameter, shape in shapes.items():
                name = f"network{i}.member{j}.{parameter}"
                dtype = "I64" if name.endswith("num_batches_tracked") else "F32"
                found = tensors.get(name)
                if found != (dtype, tuple(shape)):
                    raise ModelFileError(
                        f"{path}: the weights do not fit the card's network for "
                        f"{telescope.type}: {name!r} must be {dtype} of shape "
                        f"{tuple(shape)}, but is {_kind(found)}"
                    )
                unknown.remove(name)
    if unknown:
        raise ModelFileError(
            f"{path}: the weights do not fit the card's networks: they have no "
            f"{min(unknown)!r}"
        )


def _kind(found):
    return "missing" if found is None else f"{found[0]} of shape {found[1]}"


def read_card(path: str | Path) -> ModelCard:
    """Verify a model file and read its card.

    Verifies everything but the names and shapes of the weights, which `read_model`
    compares with the network. Needs no torch.

    Parameters
    ----------
    path : str or pathlib.Path
        Path of the model file.

    Returns
    -------
    ModelCard
        The model card.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, not a model file, or of a newer format.
    """
    return _read_path(Path(path)).card


def read_model(path: str | Path) -> Model:
    """Read a model file.

    Parameters
    ----------
    path : str or pathlib.Path
        As for `read_card`.

    Returns
    -------
    Model
        The model card and the weights.

    Raises
    ------
    ModelFileError
        As for `read_card`, or if the weights do not fit the card or are not finite.
    """
    path = Path(path)
    card, tensors = _read_path(path)
    _check_fits(path, card, {name: tensor[:2] for name, tensor in tensors.items()})
    weights = tuple(tuple({} for _ in network.members) for network in card.networks)
    try:
        with safe_open(path, framework="numpy") as file:
            for name in tensors:
                network, member, parameter = name.split(".", 2)
                i = int(network.removeprefix("network"))
                j = int(member.removeprefix("member"))
                weights[i][j][parameter] = file.get_tensor(name)
    except (OSError, SafetensorError) as err:
        raise ModelFileError(f"{path}: its weights cannot be read: {err}") from err
    return Model(card, weights)


def _collect(path, model):
    """Return the weights by their names in the file, contiguous."""
    members = [len(network.members) for network in model.card.networks]
    if [len(network) for network in model.weights] != members:
        raise ModelFileError(
            f"{path}: the card has networks of {members} members, the weights "
            f"have {[len(network) for network in model.weights]}"
        )
    weights = {}
    for i, network in enumerate(model.weights):
        for j, member in enumerate(network):
            for parameter, array in member.items():
                name = f"network{i}.member{j}.{parameter}"
                if array.dtype not in _DTYPES:
                    raise ModelFileError(
                        f"{path}: {name!r} has the type {array.dtype}, not float32 "
                        "or int64"
                    )
                weights[name] = np.asarray(array, order="C")
    return weights


def _serialize(path, model):
    """Return the bytes of a model file; raise if it could not be read back."""
    weights = _collect(path, model)
    kinds = {name: (_DTYPES[a.dtype], a.shape) for name, a in weights.items()}
    _check_fits(path, model.card, kinds)
    try:
        card_text = card_to_json(model.card)
        card_from_json(card_text)
    except ValueError as err:
        raise ModelFileError(
            f"{path}: the model card cannot be written: {err}"
        ) from err
    sha256, not_finite = _digest(
        card_text,
        ((name, *kinds[name], [weights[name].tobytes()]) for name in sorted(weights)),
    )
    _check_finite(path, not_finite)
    content = save(weights, metadata={"card": card_text, "sha256": sha256})
    length = int.from_bytes(content[:8], "little")
    try:
        if length > MAX_HEADER_BYTES:
            raise HeaderError(f"it has {length} bytes, more than {MAX_HEADER_BYTES}")
        text = content[8 : 8 + length].decode()
        _check_count(text)
        parse_header(text)
    except HeaderError as err:
        raise ModelFileError(
            f"{path}: its header could not be read back: {err}. Write fewer members "
            "into one file, or a shorter model card"
        ) from None
    return content


def write_model(path: str | Path, model: Model, overwrite: bool = False) -> None:
    """Write a model file, whole or not at all.

    Parameters
    ----------
    path : str or pathlib.Path
        Path of the model file; its folder must exist.
    model : Model
        The model card and the weights.
    overwrite : bool
        Whether to replace an existing file.

    Raises
    ------
    ModelFileError
        If the file exists already, the weights do not fit the card or are not
        finite, or the file cannot be written. An existing file is then left as it is.
    """
    # Imported here: reading a model needs no ctapipe.
    from ..files.output import OutputError, write_whole

    path = Path(path)
    try:
        if path.is_file() and not overwrite:
            raise ModelFileError(
                f"{path} exists already: give another path, or ask to overwrite it"
            )
        write_whole(path, _serialize(path, model))
    except OutputError as err:
        raise ModelFileError(str(err)) from err


def warn_incomplete(path: str | Path, card: ModelCard, log: logging.Logger) -> None:
    """Warn about a model whose training was interrupted.

    Parameters
    ----------
    path : str or pathlib.Path
        Path of the model file.
    card : ModelCard
        Its card.
    log : logging.Logger
        Receives the warning.
    """
    found = incomplete_members(card)
    if found:
        log.warning("%s: %s", path, found)
