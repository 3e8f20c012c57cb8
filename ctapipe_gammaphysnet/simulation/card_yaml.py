"""The YAML of a card: keys and plain values of one line each, and nothing else.

Anchors can make a short text very long, and tags ask for other types. Numbers are
decimal: YAML 1.1 reads 010 as 8 and 1:30 as 90; here they are text.
"""

import re

import yaml

from ..configuration.strict_yaml import UniqueKeyLoader
from ..files.paths import printable

__all__ = ["read_yaml", "show"]

# Cards are short: anything longer or deeper is refused before it is read.
_MAX_BYTES = 100_000
_MAX_VALUE = 100  # characters of a key or value
_MAX_DEPTH = 5
_SHOWN = 50  # characters of a value in a message


class _Loader(UniqueKeyLoader):
    yaml_implicit_resolvers = {}
    _depth = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _not_of_a_card(line, "write the value, not & or *")
        if event.tag is not None:
            raise _not_of_a_card(line, "write the value without !")
        if isinstance(event, yaml.ScalarEvent):
            _check_text(event.value, line)
        if self._depth > _MAX_DEPTH:
            raise _not_of_a_card(line, "too many brackets or levels")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


for _tag, _pattern in (
    ("null", r"null|~|"),
    ("bool", r"true|false"),
    ("int", r"[-+]?(0|[1-9][0-9_]*)"),
    ("float", r"[-+]?((\d+\.\d*|\.\d+)(e[-+]?\d+)?|\d+e[-+]?\d+|\.inf)|\.nan"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(rf"({_pattern})\Z", re.ASCII | re.IGNORECASE),
        None,
    )


def _not_of_a_card(line, advice):
    return ValueError(f"is not YAML as in a card: line {line}: {advice}")


def _check_text(text, line):
    """Check a key or value before anything is done with it."""
    if len(text) > _MAX_VALUE:
        raise ValueError(
            f"line {line}: {show(text)} has {len(text)} characters; a key or value "
            f"has at most {_MAX_VALUE}"
        )
    if not text.isprintable():
        raise ValueError(
            f"line {line}: {show(text)} has a line break or a character that cannot "
            "be printed; write it again"
        )


def show(value):
    """Show a value in one short, printable line.

    Parameters
    ----------
    value : object
        Text, or anything else.

    Returns
    -------
    str
        At most its first 50 characters, some of them escaped.
    """
    text = value if isinstance(value, str) else repr(value)
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN - 3]}..."
    return printable(text) or "''"


def read_yaml(path):
    """Read the YAML of a card.

    Parameters
    ----------
    path : pathlib.Path
        A regular file, and not a large one.

    Returns
    -------
    dict
        Its keys and values.

    Raises
    ------
    ValueError
        If it is not the YAML of a card; the message says why, and in which line.
    OSError
        If it cannot be read.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError("is a device or a pipe, not a file")
    with open(path, "rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"is not a card: it has more than {_MAX_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not a text in UTF-8; save it as UTF-8") from None
    return _load(text)


def _load(text):
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.reader.ReaderError as err:
        line = text.count("\n", 0, err.position) + 1
        raise ValueError(
            f"is not YAML: line {line}: character {ascii(chr(err.character))}"
        ) from None
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        raise ValueError(
            f"is not YAML: line {mark.line + 1}: {show(str(err.problem))}"
        ) from None
    if not isinstance(values, dict):
        raise ValueError(
            "does not hold keys and values; write lines such as particle: gamma"
        )
    return values
