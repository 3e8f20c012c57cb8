"""Real simulation files, where they are at hand: from waveforms to merged DL2.

They are few images. The tests show that the chain works, not how well.
"""

import numpy as np
import pytest
from ctapipe.core import run_tool
from ctapipe.io import EventSource, TableLoader
from ctapipe.tools.merge import MergeTool
from ctapipe.tools.process import ProcessorTool
from official_files import DATA, needs

from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet

GAMMAS = "gamma_prod6_lst_nectarcam.simtel.zst"
PROTONS = "proton_lst_flashcam_run202.simtel.zst"
SST = "gamma_prod4_sst1m_run102.simtel.gz"
FILES = (GAMMAS, PROTONS, SST)
# Some of the files lack an effective focal length or a readable atmosphere.
SIMTEL_OPTIONS = (
    "--SimTelEventSource.focal_length_choice=EQUIVALENT",
    "--SimTelEventSource.atmosphere_profile_choice=NONE",
)

pytestmark = needs(*FILES)


def process(name, output, *options):
    argv = [
        f"--input={DATA / name}",
        f"--output={output}",
        f"--provenance-log={output}.log",
        *SIMTEL_OPTIONS,
        *options,
    ]
    run_tool(ProcessorTool(), argv=argv, cwd=output.parent, raises=True)
    return output


def train(output, *options):
    argv = [
        f"--output={output}",
        f"--provenance-log={output}.log",
        "--no-progress",
        "--blocks=1",
        *("--channels", "4", "8"),
        "--hidden=8",
        "--epochs=2",
        "--batch-size=4",
        "--TrainGammaPhysNet.validation_fraction=0",
        *options,
    ]
    run_tool(TrainGammaPhysNet(), argv=argv, cwd=output.parent, raises=True)
    return output


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model for each file: LSTs with all tasks, the rest without the class."""
    folder = tmp_path_factory.mktemp("models")
    options = ("--write-images", "--write-parameters")
    dl1 = {name: process(name, folder / f"{name}.dl1.h5", *options) for name in FILES}
    lst = train(
        folder / "lst.safetensors",
        f"--signal={dl1[GAMMAS]}",
        f"--background={dl1[PROTONS]}",
        *("--telescope-types", "LST_LST_LSTCam"),
        *("--seeds", "0", "1"),
    )
    no_class = "--TrainGammaPhysNet.tasks={}"
    sst = train(
        folder / "sst.safetensors",
        f"--signal={dl1[SST]}",
        *(no_class.format(task) for task in ("energy", "direction", "impact")),
    )
    return {GAMMAS: lst, PROTONS: lst, SST: sst}


def reconstruct(name, models, output, *options):
    """The main job, in one command: from waveforms to DL2."""
    return process(
        name,
        output,
        "--write-showers",
        "--write-parameters",
        "--reconstructor=HillasReconstructor",
        "--reconstructor=GammaPhysNetReconstructor",
        f"--GammaPhysNetReconstructor.load_path={models[name]}",
        "--GammaPhysNetReconstructor.missing_network=warn",
        *options,
    )


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning:ctapipe")
@pytest.mark.parametrize("name", FILES)
def test_from_waveforms_to_dl2_in_one_command(name, models, tmp_path):
    output = reconstruct(name, models, tmp_path / "out.dl2.h5")
    with TableLoader(output) as loader:
        table = loader.read_telescope_events(dl2=True)
        trained = [
            tel_id
            for tel_id, telescope in loader.subarray.tel.items()
            if str(telescope) in ("LST_LST_LSTCam", "SST_1M_DigiCam")
        ]
        n_events = len(loader.read_subarray_events(dl2=True))
    with EventSource(DATA / name, focal_length_choice="EQUIVALENT") as source:
        triggers = [len(event.trigger.tels_with_trigger) for event in source]
    assert len(table) == sum(triggers)
    assert n_events == len(triggers)
    valid = np.asarray(table["GammaPhysNetEnergy_tel_is_valid"])
    has_network = np.isin(table["tel_id"], trained)
    has_signal = np.asarray(table["morphology_n_pixels"]) > 0
    np.testing.assert_array_equal(valid, has_network & has_signal)
    assert valid.any()
    for column in ("Energy_tel_energy", "Geometry_tel_alt", "Geometry_tel_core_x"):
        values = table[f"GammaPhysNet{column}"]
        assert values.unit is not None
        np.testing.assert_array_equal(np.isfinite(values), valid)

    n_valid = 0
    with EventSource(output) as source:
        for event in source:
            for tel_id in event.trigger.tels_with_trigger:
                energy = event.dl2.tel[tel_id].energy["GammaPhysNetEnergy"]
                n_valid += energy.is_valid
    assert n_valid == valid.sum()


def test_two_outputs_merge(models, tmp_path):
    parts = [
        reconstruct(
            SST,
            models,
            tmp_path / f"{obs_id}.dl2.h5",
            f"--SimTelEventSource.override_obs_id={obs_id}",
        )
        for obs_id in (1, 2)
    ]
    merged = tmp_path / "merged.dl2.h5"
    argv = [*map(str, parts), f"--output={merged}"]
    run_tool(MergeTool(), argv=argv, cwd=tmp_path, raises=True)
    with TableLoader(merged) as loader:
        events = loader.read_subarray_events(dl2=True)
    assert sorted(set(events["obs_id"])) == [1, 2]
    assert len(events) == 2 * 31
    assert events["GammaPhysNetEnergy_is_valid"].any()
