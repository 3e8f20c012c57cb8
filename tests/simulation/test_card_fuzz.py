"""Whatever a card holds, it is read, or is one short error that can be printed."""

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_card import FULL as CARD

from ctapipe_gammaphysnet.simulation.card import AirShowerCard, CardError, read_card

LINES = CARD.splitlines()
LONGEST = 1000

numbers = st.one_of(st.integers(), st.floats()).map(str)
units = st.sampled_from(["GeV", "TeV", "erg", "deg", "rad", "h", "m", "lyr", "Hz", "s"])
quantities = st.tuples(numbers, st.lists(units | st.sampled_from("*/^-() 3"))).map(
    lambda parts: f"{parts[0]} {''.join(parts[1])}"
)
texts = st.text(max_size=200).map(lambda text: yaml.dump(text, allow_unicode=True))
others = st.sampled_from(
    [
        *("", "~", "yes", "[1, 2]", "{a: 1}", "[]", "{}", "'", '"', "|", ">", "@", "%"),
        *("*a", "&a 3", "&a [*a]", "<<", "!!int x", "!!bool x", "!!binary x", "!a b"),
        *("!!timestamp x", "!!set {a}", "!!omap [a: 1]", "!!python/name:os.system ''"),
        *("0x", "0b_", "-.inf", ".nan", "1e400", "9" * 5000, "- a", "? a", "a: b: c"),
        *("2024-13-45", "1:2:3", '"\\ud800"', '"\\e[1m"', '"\\u202e"', "x" * 5000),
        *("{altitude: 1}", "{altitude: [1 deg]}", "[" * 500, "{a: " * 500),
    ]
)
values = st.one_of(numbers, quantities, texts, others)
settings = settings(deadline=2000, derandomize=True, database=None, max_examples=100)


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """Function that reads a card from its bytes."""
    path = tmp_path_factory.mktemp("fuzz") / "test.airshower.yaml"

    def check(content):
        path.write_bytes(content)
        try:
            assert isinstance(read_card(path), AirShowerCard)
        except CardError as error:
            message = str(error)
            assert message.startswith(f"{path}: ")
            assert message.isprintable()
            assert len(message) < LONGEST

    return check


@settings
@given(line=st.integers(0, len(LINES) - 1), value=values)
def test_a_value(check, line, value):
    lines = LINES.copy()
    lines[line] = re.sub(":.*", lambda _: f": {value}", lines[line])
    check("\n".join(lines).encode("utf-8", "surrogatepass"))


@settings
@given(line=st.integers(0, len(LINES)), key=values, value=values)
def test_a_key(check, line, key, value):
    lines = LINES.copy()
    lines.insert(line, f"{key}: {value}")
    check("\n".join(lines).encode("utf-8", "surrogatepass"))


@settings
@given(start=st.integers(0, len(CARD)), stop=st.integers(0, 20), new=st.binary())
def test_bytes(check, start, stop, new):
    content = CARD.encode()
    check(content[:start] + new + content[start + stop :])


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings
@given(tree=st.dictionaries(st.sampled_from(list(AirShowerCard.model_fields)), trees))
def test_structure(check, tree):
    check(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("width", [2, 10])
def test_a_text_that_grows_without_end(check, width):
    levels = [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, 40)
    ]
    check("\n".join(["a0: &a0 x", *levels, "seed: *a39"]).encode())
