"""Parse the header of a safetensors file of unknown origin.

The header is JSON: an object with the type, the shape and the position in the data of
each tensor, and ``__metadata__``, which has texts.
"""

import math
import re
import sys
from typing import NamedTuple

from .strict_json import MAX_LENGTH, StrictJsonError, strict_json

__all__ = [
    "FEW_TENSORS",
    "MAX_TENSORS",
    "HeaderError",
    "Tensor",
    "check_layout",
    "count_tensors",
    "first_metadata",
    "parse_header",
]

#: Enough for 20 telescope types with 10 members each of a ResNet-56 with attention,
#: which has 437 tensors.
MAX_TENSORS = 100_000
#: A header with up to this many tensors is parsed in a few hundredths of a second. With
#: more, their number is first compared with the model card.
FEW_TENSORS = 1000
_ITEM_BYTES = {"F32": 4, "I64": 8}

# The tokens of the header. It is parsed token by token: parsing all of it at once could
# take a hundred times its size in memory.
_SPACE = r"[ \t\n\r]*+"
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_BEGIN = re.compile(rf"(\{{){_SPACE}")
_KEY = re.compile(rf"({_STRING}){_SPACE}:{_SPACE}")
_TENSOR = re.compile(r"\{[^{}]{0,500}+\}")
# Texts have no \u escapes: a model card is ASCII, and with a single character beyond
# the basic plane, every character of a text would take four bytes.
_PLAIN = r'"(?:[^"\\]++|\\[^u])*+"'
_METADATA = re.compile(
    rf"\{{(?:{_SPACE}{_PLAIN}{_SPACE}:{_SPACE}{_PLAIN}{_SPACE},?){{0,100}}+"
    rf"{_SPACE}\}}"
)
_SEPARATOR = re.compile(rf"{_SPACE}([,}}]){_SPACE}")


class HeaderError(ValueError):
    """A header is damaged, or does not belong to a model file."""


class Tensor(NamedTuple):
    """Type, shape and position of a tensor.

    Attributes
    ----------
    dtype : str
        ``"F32"`` or ``"I64"``, once `check_layout` has passed.
    shape : tuple of int
        Shape.
    begin, end : int
        Where its bytes begin and end, counted from the end of the header.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _json(text):
    try:
        return strict_json(text)
    except StrictJsonError as err:
        raise HeaderError(str(err)) from None


def _parse_name(text):
    if len(text) > 500:
        raise HeaderError("it has a name of more than 500 characters")
    return _json(text)


def _parse_metadata(text):
    # Quotes and backslashes of the card are escaped here: two characters each.
    if len(text) > 2 * MAX_LENGTH + 1000:
        raise HeaderError(f"its metadata has {len(text)} characters, which is too long")
    return _json(text)


def _parse_tensor(text):
    values = _json(text)
    if values.keys() != {"dtype", "shape", "data_offsets"}:
        raise HeaderError("an entry does not have exactly dtype, shape, data_offsets")
    dtype, shape, offsets = values["dtype"], values["shape"], values["data_offsets"]
    if not (
        isinstance(dtype, str)
        and isinstance(shape, list)
        and isinstance(offsets, list)
        and len(offsets) == 2
        and all(type(number) is int and number >= 0 for number in shape + offsets)
    ):
        raise HeaderError(f"an entry has values of a wrong kind: {text!r}")
    # Interned, since the same few texts occur thousands of times.
    return Tensor(sys.intern(dtype), tuple(shape), *offsets)


def _token(pattern, text, position):
    match = pattern.match(text, position)
    if match is None:
        raise HeaderError(f"it breaks off or makes no sense at byte {position}")
    return match


def count_tensors(text):
    """Count the tensors of a header without parsing it.

    Parameters
    ----------
    text : str
        The header.

    Returns
    -------
    int
        Number of tensors, if safetensors wrote the header.
    """
    # Within a text, such as the card, the quotes would be escaped.
    return text.count('"data_offsets"')


def first_metadata(text):
    """Parse only the metadata, which safetensors writes before all tensors.

    Parameters
    ----------
    text : str
        The header.

    Returns
    -------
    dict of str to str
        Texts, empty if the header does not begin with metadata.

    Raises
    ------
    HeaderError
        If the header breaks off or makes no sense there.
    """
    key = _token(_KEY, text, _token(_BEGIN, text, 0).end())
    if key[1] != '"__metadata__"':
        return {}
    return _parse_metadata(_token(_METADATA, text, key.end())[0])


def parse_header(text):
    """Parse a header.

    Parameters
    ----------
    text : str
        The header, at least one entry.

    Returns
    -------
    metadata : dict of str to str
        Texts, empty if there are none.
    tensors : dict of str to Tensor
        Tensors by name, in the header's order.

    Raises
    ------
    HeaderError
        If the text is not the header of a safetensors file, or has a name twice, or
        too many tensors.
    """
    # There can be more than counted only if safetensors did not write the header.
    max_tensors = min(MAX_TENSORS, max(count_tensors(text), FEW_TENSORS))
    entries = {}
    separator = _token(_BEGIN, text, 0)
    while separator[1] != "}":
        key = _token(_KEY, text, separator.end())
        name = _parse_name(key[1])
        if name in entries:
            raise HeaderError(f"it has two entries {name!r}")
        if len(entries) > max_tensors:
            raise HeaderError(f"it has more than {max_tensors} tensors")
        if name == "__metadata__":
            value = _token(_METADATA, text, key.end())
            entries[name] = _parse_metadata(value[0])
        else:
            value = _token(_TENSOR, text, key.end())
            entries[name] = _parse_tensor(value[0])
        separator = _token(_SEPARATOR, text, value.end())
    if separator.end() != len(text):
        raise HeaderError(f"it continues after its end, at byte {separator.end()}")
    return entries.pop("__metadata__", {}), entries


def check_layout(tensors, size):
    """Check that the tensors cover the data without gap or overlap.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Tensors by name.
    size : int
        Number of bytes that follow the header.

    Raises
    ------
    HeaderError
        If they do not, or a tensor is neither float32 nor int64.
    """
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if tensor.dtype not in _ITEM_BYTES:
            raise HeaderError(f"{name!r} has the type {tensor.dtype!r}, not F32 or I64")
        end = position + math.prod(tensor.shape) * _ITEM_BYTES[tensor.dtype]
        if (tensor.begin, tensor.end) != (position, end):
            raise HeaderError(
                f"{name!r} lies at {tensor.begin} to {tensor.end}, "
                f"not at {position} to {end}"
            )
        position = end
    if position != size:
        raise HeaderError(f"its tensors take {position} bytes, but the file has {size}")
