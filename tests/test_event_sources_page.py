"""The page on event sources of other packages: its script works."""

import re
import runpy
import sys
from pathlib import Path

from ctapipe_gammaphysnet.model.file import read_card

PAGE = Path(__file__).parent.parent / "docs/event_sources.md"


def test_script_makes_a_network_for_each_telescope_type(
    tmp_path, monkeypatch, toy_file, toy_subarray
):
    first, *_ = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    script = tmp_path / "random_model.py"
    script.write_text(first)
    model = tmp_path / "random.safetensors"
    monkeypatch.setattr(sys, "argv", [str(script), str(toy_file), str(model)])
    runpy.run_path(str(script), run_name="__main__")
    networks = read_card(model).networks
    cameras = {len(network.telescope.camera.pix_x_m) for network in networks}
    assert cameras == {t.camera.geometry.n_pixels for t in toy_subarray.telescope_types}
