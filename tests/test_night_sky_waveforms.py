"""A brighter night sky in waveforms, by ctapipe, as the example configures it."""

from pathlib import Path

import ctapipe
import numpy as np
import pytest
import yaml
from ctapipe.containers import EventType
from ctapipe.core import run_tool
from ctapipe.io import TableLoader
from ctapipe.tools.process import ProcessorTool
from packaging.version import Version
from traitlets import Bool

from ctapipe_gammaphysnet.simulation.source import AirShowerEventSource

pytestmark = pytest.mark.skipif(
    Version(ctapipe.__version__) < Version("0.31"),
    reason="adding noise to waveforms needs ctapipe 0.31 or newer",
)

CONFIG = Path(__file__).parents[1] / "examples/conditions/night_sky_waveforms.yaml"
CARD = """\
particle: gamma
showers: 3
seed: 5
reuse: 2
energy_min: 1 TeV
energy_max: 2 TeV
scatter_radius: 100 m
array: lst4
"""
#: Standard deviation of a planted sample, in p.e., and samples in a window.
SAMPLE_NOISE, WINDOW = 0.2, 8
WINDOWS = [
    "--CameraCalibrator.image_extractor_type=FixedWindowSum",
    f"--FixedWindowSum.window_width={WINDOW}",
    f"--FixedWindowSum.window_shift={WINDOW // 2}",
    "--FixedWindowSum.peak_index=20",
    "--FixedWindowSum.apply_integration_correction=False",
]


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    path = tmp_path_factory.mktemp("night_sky") / "gamma.airshower.yaml"
    path.write_text(CARD)
    return path


class NoiseSource(AirShowerEventSource):
    """Events whose waveforms are nothing but planted noise."""

    # ctapipe sets it: only the source of simtel files has it otherwise.
    skip_calibration_events = Bool(True).tag(config=True)

    @staticmethod
    def is_compatible(file_path):
        return str(file_path).endswith(".noise.yaml")

    def _generator(self):
        rng = np.random.default_rng(1)
        for event in super()._generator():
            event.trigger.event_type = EventType.SKY_PEDESTAL
            # ctapipe needs twice as many events as it adds up.
            for _ in range(12):
                for r1 in event.r1.tel.values():
                    noise = rng.normal(1, SAMPLE_NOISE, r1.waveform.shape)
                    r1.waveform = noise.astype(np.float32)
                yield event


def charges(card, name, *options):
    """Charges of the pixels without light of the shower."""
    output = card.parent / f"{name}.h5"
    argv = [f"--input={card}", f"--output={output}", "--write-images", *WINDOWS]
    argv.append(f"--provenance-log={output}.provenance.log")
    run_tool(ProcessorTool(), argv=[*argv, *options], cwd=card.parent, raises=True)
    with TableLoader(output) as loader:
        table = loader.read_telescope_events(dl1_images=True, true_images=True)
    return np.asarray(table["image"])[np.asarray(table["true_image"]) == 0]


@pytest.mark.parametrize("level", [1, 6])
def test_noise_is_that_of_the_events_added_up(card, tmp_path, level):
    noise = tmp_path / "night_sky.noise.yaml"
    config = yaml.safe_load(CONFIG.read_text())
    config["WaveformModifier"] |= {"nsb_file": str(noise), "nsb_level": level}
    noise.write_text(CARD)
    path = tmp_path / CONFIG.name
    path.write_text(yaml.safe_dump(config))
    dark = charges(card, f"dark_{level}")
    bright = charges(card, f"bright_{level}", f"--config={path}")
    assert bright.shape == dark.shape
    added = bright.var() - dark.var()
    assert added == pytest.approx(level * WINDOW * SAMPLE_NOISE**2, rel=0.05)
    # The mean is taken off: a brighter sky moves no pedestal.
    assert bright.mean() == pytest.approx(dark.mean(), abs=0.02)
