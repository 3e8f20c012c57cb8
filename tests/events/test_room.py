"""Files and events are opened here alone: a second kind of them is a change here."""

import re
from pathlib import Path

import pytest

import ctapipe_gammaphysnet
from ctapipe_gammaphysnet.events.reader import EventReader

PACKAGE = Path(ctapipe_gammaphysnet.__file__).parent
#: The simulation makes events, and stands alone.
OTHERS = [
    path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] not in ("events", "simulation")
]


@pytest.mark.parametrize(
    "pattern",
    [
        # The modules of one kind of file, and opening it oneself.
        r"events\.dl[12]_|\bopen_input\(|\b(dl1|reader)\.h5file",
        r"\bevent\.(dl[0-9]|r[01]|monitoring|trigger|simulation|index)\b",
    ],
)
def test_no_other_room_knows_where_things_are(pattern):
    assert len(OTHERS) > 50
    found = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in OTHERS
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(pattern, line) and not line.startswith("def open_input(")
    ]
    assert found == []


def test_a_reader_that_lacks_a_method_cannot_be_made():
    class Unfinished(EventReader):
        def close(self):
            pass

    with pytest.raises(TypeError, match="abstract methods.*read_images"):
        Unfinished()
