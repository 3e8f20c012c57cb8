"""Read the pickle in a checkpoint, without running it.

A pickle is a program, and what makes it dangerous is that it can call functions. The
one in a checkpoint needs about thirty instructions and two calls. They are followed
here one by one, and a call is only written down: nothing of the pickle is imported or
called. Tensors are described, and their numbers stay in the file. Anything else is
refused.
"""

import pickletools
from typing import NamedTuple

from .errors import ImportedModelError

__all__ = ["Tensor", "read_pickle"]

#: Twelve times that of a γ-PhysNet DA with the state of its optimizer.
MAX_BYTES = 2**21
#: More than any array of this package has.
MAX_DIMENSIONS = 8
#: The type of a tensor's numbers, by the class of its storage.
_TYPES = {
    "torch FloatStorage": "float32",
    "torch DoubleStorage": "float64",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
}
_DICTIONARY = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_KNOWN = {_DICTIONARY, _TENSOR, *_TYPES}


class Tensor(NamedTuple):
    """A tensor as a checkpoint describes it.

    Attributes
    ----------
    dtype : str
        Type of its numbers.
    key : str
        Name of the entry in the archive that holds them.
    offset : int
        Number of elements before the first one.
    shape, strides : tuple of int
        Length of each axis and step along it, in elements.
    """

    dtype: str
    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Global(NamedTuple):
    """A function or class that the pickle names."""

    name: str


class _Storage(NamedTuple):
    dtype: str
    key: str


def read_pickle(content: bytes) -> object:
    """Read a pickle of numbers, text, lists, dictionaries and tensors.

    Parameters
    ----------
    content : bytes
        The pickle.

    Returns
    -------
    object
        Its content. Tensors are `Tensor`; every kind of dictionary is a ``dict``.

    Raises
    ------
    ImportedModelError
        If it has anything else, or is damaged.
    """
    if len(content) > MAX_BYTES:
        raise ImportedModelError(
            f"it describes its tensors in {len(content)} bytes; a checkpoint needs "
            f"less than {MAX_BYTES}"
        )
    machine = _Machine()
    try:
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name == "STOP":
                return machine.stack.pop()
            machine.follow(instruction.name, argument)
    except ImportedModelError:
        raise
    except (IndexError, KeyError, ValueError) as error:
        raise ImportedModelError(f"its pickle is damaged: {error}") from None
    raise ImportedModelError("its pickle has no end")


class _Machine:
    """The stack on which instructions work, and what they keep for later."""

    #: Instructions that put a new value on the stack.
    _new = {
        "NONE": lambda: None,
        "NEWTRUE": lambda: True,
        "NEWFALSE": lambda: False,
        "EMPTY_LIST": list,
        "EMPTY_DICT": dict,
        "EMPTY_TUPLE": tuple,
    }
    #: Those whose argument is the value.
    _literal = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}

    def __init__(self):
        self.stack, self.marks, self.memo = [], [], {}

    def follow(self, name, argument):
        """Follow one instruction."""
        if name in self._new:
            self.stack.append(self._new[name]())
        elif name in self._literal:
            self.stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(self.stack))
        else:
            self._build(name, argument)

    def _build(self, name, argument):
        """Follow an instruction that makes a value of others."""
        match name:
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.stack.append(tuple(self._pop(name[5:])))
            case "APPEND" | "APPENDS":
                self._extend(self._pop(1 if name == "APPEND" else ""))
            case "SETITEM" | "SETITEMS":
                self._update(self._pop(2 if name == "SETITEM" else ""))
            case "GLOBAL":
                self.stack.append(_global(argument))
            case "BINPERSID":
                self.stack.append(_storage(self.stack.pop()))
            case "REDUCE":
                self.stack.append(_call(*self._pop(2)))
            case "BUILD":
                # What a state dict has besides its entries: versions of its modules.
                self._pop(1)
            case "PROTO":
                pass
            case _:
                raise ImportedModelError(
                    f"its pickle has the instruction {name}, which numbers, text and "
                    "containers of them do not need. No code of it was run"
                )

    def _pop(self, count):
        """The last values, those since the last mark if no number is given."""
        start = len(self.stack) - int(count) if count else self.marks.pop()
        if start < 0:
            raise IndexError("values are missing")
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def _extend(self, values):
        if type(self.stack[-1]) is not list:
            raise ValueError("values are appended to something that is not a list")
        self.stack[-1].extend(values)

    def _update(self, values):
        keys = values[::2]
        # Other keys could be nested without end, and slow to compare.
        if type(self.stack[-1]) is not dict or not {*map(type, keys)} <= {str, int}:
            raise ValueError("a dictionary has keys that are neither text nor integers")
        self.stack[-1].update(zip(keys, values[1::2], strict=True))


def _global(name):
    if name not in _KNOWN:
        raise ImportedModelError(
            f"it would run {name.replace(' ', '.')!r}. No code of it was run"
        )
    return _Global(name)


def _storage(description):
    """The storage that a tuple describes: its class, key, device and length."""
    match description:
        case ("storage", _Global(name), str(key), str(), int()) if name in _TYPES:
            return _Storage(_TYPES[name], key)
    raise ValueError("a storage is described in an unknown way")


def _call(function, arguments):
    """The result of a call: an empty dictionary or a tensor."""
    match function, arguments:
        case _Global(name), () if name == _DICTIONARY:
            return {}
        case (
            _Global(name),
            (_Storage(dtype, key), int(offset), tuple(shape), tuple(strides), *_),
        ) if name == _TENSOR and _are_sizes(shape, strides):
            return Tensor(dtype, key, offset, shape, strides)
    raise ValueError("a call has unknown arguments")


def _are_sizes(*axes):
    lengths = {len(values) for values in axes}
    return (
        len(lengths) == 1
        and max(lengths) <= MAX_DIMENSIONS
        and all(type(value) is int and value >= 0 for part in axes for value in part)
    )
