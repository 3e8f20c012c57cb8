"""Parse JSON of unknown origin: strictly, and with little memory."""

import json
import re

__all__ = ["MAX_LENGTH", "StrictJsonError", "check_size", "strict_json"]

#: Longest JSON text, in characters. The model card of a camera of 2000 pixels takes
#: about 0.1 million.
MAX_LENGTH = 5_000_000
# Limits on the number of values, counted by their punctuation. A text of a few
# megabytes can hold millions of empty lists: hundreds of megabytes in Python.
_MAX_PUNCTUATION = {"[": 20_000, "{": 20_000, ":": 50_000, ",": 200_000}
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"')


class StrictJsonError(ValueError):
    """A text is not strict JSON, or is too large."""


def _unique_keys(pairs):
    values = dict(pairs)
    if len(values) != len(pairs):
        raise StrictJsonError("a key occurs twice in an object of its JSON")
    return values


def _refuse_constant(name):
    raise StrictJsonError(f"its JSON contains {name}, which is not a JSON value")


def strict_json(text, constants=_refuse_constant):
    """Parse JSON; refuse duplicate keys, NaN and infinities.

    Parameters
    ----------
    text : str
        JSON text.
    constants : callable, optional
        Returns the value of ``NaN``, ``Infinity`` or ``-Infinity``, instead of refusing
        it.

    Returns
    -------
    object
        The value.

    Raises
    ------
    StrictJsonError
        If the text is not JSON, is nested too deeply, or has an object with a key
        twice, NaN or Infinity, or an integer of thousands of digits.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=constants)
    try:
        return decoder.decode(text)
    except StrictJsonError:
        raise
    except (ValueError, RecursionError) as err:
        raise StrictJsonError(f"its JSON cannot be read: {err}") from None


def check_size(text):
    """Refuse JSON whose values could take much memory, without parsing it.

    Parameters
    ----------
    text : str
        JSON text.

    Raises
    ------
    StrictJsonError
        If the text has too many characters or values, or characters beyond
        ASCII, which can take four times the memory.
    """
    if len(text) > MAX_LENGTH:
        raise StrictJsonError(
            f"its JSON has {len(text)} characters, more than {MAX_LENGTH}"
        )
    if not text.isascii():
        raise StrictJsonError("its JSON has characters beyond ASCII, not escaped")
    punctuation = _STRING.sub("", text)
    for mark, limit in _MAX_PUNCTUATION.items():
        if punctuation.count(mark) > limit:
            raise StrictJsonError(f"its JSON has more than {limit} times {mark!r}")
