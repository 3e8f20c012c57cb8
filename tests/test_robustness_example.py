"""The demonstration's script that measures what other conditions change."""

import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).absolute().parents[1] / "examples"
MODEL = EXAMPLES / "data/lst_demonstration.safetensors"
SAMPLE = [EXAMPLES / f"data/sample_{name}.dl1.h5" for name in ("gamma", "proton")]


@pytest.fixture
def robustness(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES / "demonstration"), *sys.path])
    import robustness

    monkeypatch.setattr(robustness, "N_RESAMPLES", 10)
    return robustness


def read_rows(text):
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()]
    return {row[0]: [float(cell.split()[0]) for cell in row[1:]] for row in rows[2:]}


def test_it_shows_what_conditions_change(robustness, monkeypatch, capsys):
    """The model's input has no pedestal, and energy follows the gain."""
    conditions = {"pedestal": (1, 0.5, 0), "gain": (1.3, 0, 0)}
    monkeypatch.setattr(robustness, "CONDITIONS", conditions)
    files = [str(path) for path in SAMPLE]
    again = ["--files", *files, "--again", *files]
    monkeypatch.setattr(sys, "argv", ["robustness.py", str(MODEL), *again])
    robustness.main()
    rows = read_rows(capsys.readouterr().out)
    auc, recall, bias, resolution, angle = rows["as they are"]
    assert 0.8 < auc < 1
    assert 0.8 < recall <= 1
    assert (np.abs(rows["pedestal"]) < 1e-4).all()
    assert rows["gain"][2] > 0.05
    # The same files again.
    assert rows[str(SAMPLE[0].parent)] == [0] * 5


def test_pixels_in_the_mask_get_the_gain_alone(robustness):
    image = np.full((2, 4000), 10, np.float32)
    mask = np.zeros(image.shape, bool)
    mask[:, :1000] = True
    rng = np.random.default_rng(0)
    changed = robustness.disturb(image, mask, 1.1, -0.5, 2, rng)
    np.testing.assert_allclose(changed[mask], 11, rtol=1e-6)
    assert changed[~mask].mean() == pytest.approx(10.5, abs=0.1)
    assert changed[~mask].std() == pytest.approx(2, rel=0.05)
