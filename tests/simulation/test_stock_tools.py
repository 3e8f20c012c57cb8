"""ctapipe's own tools take what is simulated all the way from cards to an IRF.

The physics is tested elsewhere: here few bright showers go through every stage, with
ctapipe's own configurations where they come with it.
"""

import sys
from importlib.resources import files
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import QTable
from ctapipe.core import run_tool
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import DataLevel, EventSource, HDF5EventSource, TableLoader
from ctapipe.tools import fileinfo, info
from ctapipe.tools.apply_models import ApplyModels
from ctapipe.tools.dump_instrument import DumpInstrumentTool
from ctapipe.tools.merge import MergeTool
from ctapipe.tools.process import ProcessorTool
from ctapipe.tools.train_disp_reconstructor import TrainDispReconstructor
from ctapipe.tools.train_energy_regressor import TrainEnergyRegressor
from ctapipe.tools.train_particle_classifier import TrainParticleClassifier
from traitlets.config import Config

from ctapipe_gammaphysnet.simulation.card import PRIMARY_ID, read_card
from ctapipe_gammaphysnet.simulation.primaries import draw_primary

# ctapipe looks in every output for metadata that models and cuts do not have.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Could not read reference metadata .*[.](pkl|fits)"
    ":ctapipe.core.provenance.MissingReferenceMetadata"
)

CARDS = {
    # From one point, the default of gammas: their IRF is another case for the tools.
    "gamma": {"showers": 12, "runs": 2, "energy_min": "300 GeV"},
    "electron": {"showers": 12, "energy_min": "300 GeV", "view_cone": "1 deg"},
    "proton": {"showers": 24, "energy_min": "500 GeV", "view_cone": "1.5 deg"},
}
COMMON = {
    "seed": 1,
    "reuse": 3,
    "energy_max": "3 TeV",
    "spectral_index": -1.8,
    "scatter_radius": "250 m",
    "array": "lst4",
}
DL2 = ["HillasReconstructor", "ExtraTreesRegressor", "ExtraTreesClassifier"]
IRF_CONFIG = {
    "DL2EventPreprocessor": {
        "geometry_reconstructor": DL2[0],
        "energy_reconstructor": DL2[1],
        "gammaness_classifier": DL2[2],
        "DL2EventQualityQuery": {
            "quality_criteria": [[name, f"{name}_is_valid"] for name in DL2]
        },
    },
    # One bin each, for few events.
    "DefaultRecoEnergyBins": {
        "reco_energy_min": "0.3 TeV",
        "reco_energy_max": "3 TeV",
        "reco_energy_n_bins_per_decade": 1,
    },
    "DefaultTrueEnergyBins": {
        "true_energy_min": "0.3 TeV",
        "true_energy_max": "3 TeV",
        "true_energy_n_bins_per_decade": 1,
    },
    "DefaultFoVOffsetBins": {
        "fov_offset_min": "0 deg",
        "fov_offset_max": "1 deg",
        "fov_offset_n_bins": 1,
    },
}
OBS_TIME = 50 * u.hour


def run(tool, output, *options):
    """Run a tool of ctapipe, and return its output."""
    argv = [f"--output={output}", f"--provenance-log={output}.provenance.log"]
    run_tool(tool, [*argv, *options], cwd=output.parent, raises=True)
    return output


def process(card, output, *options):
    """Run ctapipe-process on a card, and return its output."""
    levels = ["--write-images", "--write-parameters", "--write-showers"]
    return run(ProcessorTool(), output, f"--input={card}", *levels, *options)


IMAGES = "--AirShowerEventSource.dl1_images=True"
RUN = "--AirShowerEventSource.runs"


def stock_config(tool):
    """Options of a training by ctapipe's configuration, less often validated."""
    config = f"--config={files('ctapipe.resources') / f'{tool}.yaml'}"
    return config, "--CrossValidator.n_cross_validations=2"


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """Card of each particle."""
    folder = tmp_path_factory.mktemp("stock_tools")
    paths = {name: folder / f"{name}.airshower.yaml" for name in CARDS}
    for name, path in paths.items():
        path.write_text(yaml.safe_dump({"particle": name} | COMMON | CARDS[name]))
    return paths


@pytest.fixture(scope="module")
def stereo_files(cards):
    """File of each particle, with images and HillasReconstructor's showers."""
    folder = cards["gamma"].parent
    paths = {
        name: process(cards[name], folder / f"{name}.h5", IMAGES)
        for name in ("electron", "proton")
    }
    parts = [
        process(cards["gamma"], folder / f"gamma_{n}.h5", IMAGES, f"{RUN}={n}")
        for n in (1, 2)
    ]
    paths["gamma"] = run(MergeTool(), folder / "gamma.h5", *map(str, parts))
    return paths


@pytest.fixture(scope="module")
def models(stereo_files):
    """Forests as ctapipe's own configurations describe them."""
    folder = stereo_files["gamma"].parent
    energy = run(
        TrainEnergyRegressor(),
        folder / "energy.pkl",
        f"--input={stereo_files['gamma']}",
        *stock_config("train_energy_regressor"),
    )
    with_energy = {
        name: apply_models([energy], stereo_files[name], folder / f"{name}_energy.h5")
        for name in ("gamma", "proton")
    }
    classifier = run(
        TrainParticleClassifier(),
        folder / "classifier.pkl",
        f"--signal={with_energy['gamma']}",
        f"--background={with_energy['proton']}",
        *stock_config("train_particle_classifier"),
    )
    disp = run(
        TrainDispReconstructor(),
        folder / "disp.pkl",
        f"--input={with_energy['gamma']}",
        *stock_config("train_disp_reconstructor"),
    )
    return [energy, classifier, disp]


def apply_models(models, path, output):
    """Run ctapipe-apply-models on a file, and return its output."""
    reconstructors = [f"--reconstructor={model}" for model in models]
    return run(ApplyModels(), output, f"--input={path}", *reconstructors)


@pytest.fixture(scope="module")
def dl2_files(stereo_files, models):
    """File of each particle, with what the forests say."""
    return {
        name: apply_models(models, path, path.with_suffix(".dl2.h5"))
        for name, path in stereo_files.items()
    }


@pytest.fixture(scope="module")
def irf_tools(dl2_files):
    """What ctapipe has with pyirf only: tools, their options, event loader."""
    pytest.importorskip("pyirf", reason="ctapipe's IRF tools need it")
    from ctapipe.io import DL2EventLoader
    from ctapipe.irf import Spectra
    from ctapipe.tools.compute_irf import IrfTool
    from ctapipe.tools.optimize_event_selection import EventSelectionOptimizer

    folder = dl2_files["gamma"].parent
    config = folder / "irf.yaml"
    config.write_text(yaml.safe_dump(IRF_CONFIG))
    options = [f"--config={config}"]
    options += [f"--{name}-file={dl2_files[name]}" for name in ("proton", "electron")]
    cuts = run(
        EventSelectionOptimizer(),
        folder / "cuts.fits",
        f"--gamma-file={dl2_files['gamma']}",
        *options,
    )
    # The best gammaness of a dozen showers is chance, and may leave no background.
    with fits.open(cuts, mode="update") as file:
        assert 0 < file["GH_CUTS"].data["cut"].item() <= 1
        file["GH_CUTS"].data["cut"] = 0
    return SimpleNamespace(
        cuts=cuts,
        optimizer=EventSelectionOptimizer,
        options=options,
        loader=DL2EventLoader,
        tool=IrfTool,
        target={
            "gamma": Spectra.CRAB_HEGRA,
            "electron": Spectra.IRFDOC_ELECTRON_SPECTRUM,
            "proton": Spectra.IRFDOC_PROTON_SPECTRUM,
        },
    )


# Of muon rings that are none: no light far from them, or of negative charge in all.
@pytest.mark.filterwarnings(
    "ignore:invalid value encountered:RuntimeWarning:ctapipe.image.muon.features",
    "ignore:invalid value encountered in sqrt:RuntimeWarning:astropy.units.quantity",
)
@pytest.mark.parametrize("particle", CARDS)
def test_waveforms_are_processed(cards, particle, tmp_path):
    """What ctapipe-process does by default, with muon parameters as well."""
    card = tmp_path / "few.airshower.yaml"
    few = {"showers": 1, "runs": 1, "energy_min": "2 TeV", "scatter_radius": "100 m"}
    card.write_text(yaml.safe_dump(yaml.safe_load(cards[particle].read_text()) | few))
    path = process(card, tmp_path / "few.h5", "--write-muon-parameters")
    with TableLoader(path) as loader:
        table = loader.read_telescope_events(
            dl1_images=True, true_images=True, dl1_muons=True, dl2=True
        )
    assert set(table["true_shower_primary_id"]) == {PRIMARY_ID[particle]}
    assert "muonring_radius" in table.colnames
    assert np.any(table["HillasReconstructor_is_valid"])
    true_image = table["true_image"]
    bright = true_image > 20
    assert bright.sum() > 20
    charge, true_charge = table["image"][bright].sum(), true_image[bright].sum()
    assert charge == pytest.approx(true_charge, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("particle", CARDS)
def test_files_are_read(cards, stereo_files, particle):
    card = read_card(cards[particle])
    with HDF5EventSource(stereo_files[particle]) as source:
        assert {DataLevel.DL1_IMAGES, DataLevel.DL2} <= set(source.datalevels)
        assert source.subarray == EventSource(cards[particle]).subarray
        assert list(source.simulation_config) == list(card.run_numbers)
        events = [(int(e.index.obs_id), int(e.index.event_id)) for e in source]
    with TableLoader(stereo_files[particle]) as loader:
        table = loader.read_subarray_events(observation_info=True)
        configs = loader.read_simulation_configuration()
        distributions = loader.read_shower_distribution()
    assert list(zip(table["obs_id"], table["event_id"], strict=True)) == events
    assert set(table["obs_id"]) == set(card.run_numbers)
    assert table["HillasReconstructor_is_valid"].sum() > 0.5 * len(table) > 15
    assert set(table["subarray_pointing_lat"].quantity.to_value(u.deg)) == {70}
    assert list(configs["obs_id"]) == list(distributions["obs_id"])
    assert list(configs["obs_id"]) == list(card.run_numbers)
    simulated = card.showers * card.reuse
    assert list(distributions["n_entries"]) == [simulated] * card.runs
    assert list(distributions["histogram"].sum(axis=(1, 2))) == [simulated] * card.runs


@pytest.mark.slow
@pytest.mark.parametrize("particle", CARDS)
def test_models_are_applied(cards, stereo_files, dl2_files, particle):
    with TableLoader(stereo_files[particle]) as loader:
        n_events = len(loader.read_subarray_events())
    with TableLoader(dl2_files[particle]) as loader:
        events = loader.read_subarray_events()
        images = loader.read_telescope_events(dl1_images=True)
    assert len(events) == n_events
    assert images["image"].shape == (len(images), 1855)
    for prefix in ("ExtraTreesRegressor", "ExtraTreesClassifier", "disp"):
        assert events[f"{prefix}_is_valid"].sum() > 0.5 * len(events)
        assert images[f"{prefix}_tel_is_valid"].sum() > 0.5 * len(images)
    valid = events[events["ExtraTreesRegressor_is_valid"]]
    energy = valid["ExtraTreesRegressor_energy"].quantity
    # Forests do not say what they have not seen.
    trained = read_card(cards["gamma"])
    assert np.all(0.99 * trained.energy_min < energy)
    assert np.all(energy < 1.01 * trained.energy_max)
    assert np.isfinite(events["disp_alt"][events["disp_is_valid"]]).all()


@pytest.mark.slow
def test_forests_learn_from_the_simulation(dl2_files):
    """What they were trained on, they must tell apart."""
    scores, errors = {}, {}
    for name, path in dl2_files.items():
        with TableLoader(path) as loader:
            table = loader.read_subarray_events()
        scores[name] = np.nanmedian(table["ExtraTreesClassifier_prediction"])
        ratio = table["ExtraTreesRegressor_energy"] / table["true_energy"]
        errors[name] = np.nanmedian(np.abs(np.log(ratio)))
    assert scores["gamma"] > 0.7
    assert scores["proton"] < 0.3
    assert errors["gamma"] < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("particle", CARDS)
def test_the_simulated_spectrum_is_that_of_the_card(
    cards, dl2_files, irf_tools, particle
):
    card = read_card(cards[particle])
    loader = irf_tools.loader(
        file=dl2_files[particle],
        target_spectrum=irf_tools.target[particle],
        config=Config(IRF_CONFIG),
    )
    with TableLoader(dl2_files[particle]) as tables:
        simulated, spectrum = loader.get_simulation_information(tables, OBS_TIME)
    assert simulated.n_showers == card.runs * card.showers * card.reuse
    assert simulated.energy_min == card.energy_min
    assert simulated.energy_max == card.energy_max
    assert simulated.spectral_index == card.spectral_index
    assert simulated.max_impact == card.scatter_radius
    assert simulated.viewcone_min == 0 * u.deg
    assert simulated.viewcone_max == card.view_cone
    # Weights of all showers, also of those that did not trigger, must add up to how
    # many come in the time.
    showers = [
        draw_primary(card, run, shower)[0].energy_gev
        for run in card.run_numbers
        for shower in range(1, card.showers + 1)
    ]
    target = loader.target_spectrum
    weights = (target(showers * u.GeV) / spectrum(showers * u.GeV)).to_value(u.one)
    seen = np.pi * card.scatter_radius**2 * OBS_TIME
    if particle != "gamma":
        seen = seen * 2 * np.pi * (1 - np.cos(card.view_cone)) * u.sr
    energies = np.geomspace(card.energy_min, card.energy_max, 1001)
    expected = (np.trapezoid(target(energies), energies) * seen).to_value(u.one)
    error = weights.std() / len(weights) ** 0.5 / weights.mean()
    assert error < 0.2
    total = weights.sum() * card.reuse
    assert total == pytest.approx(expected, rel=3 * error)
    # Those of the events in the file are some of them.
    events, n_events, _ = loader.load_preselected_events(10_000, OBS_TIME)
    assert 10 < len(events) <= n_events
    events = loader.make_event_weights(events, spectrum, f"{particle}s")
    assert 0.02 * total < events["weight"].sum() <= 1.0001 * total


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["gamma", "electron"])
def test_irf(cards, dl2_files, irf_tools, signal):
    """With signal from a point, and with electrons in place of diffuse gammas."""
    output = dl2_files[signal].with_suffix(".irf.fits")
    benchmarks = output.with_suffix(".benchmarks.fits")
    run(
        irf_tools.tool(),
        output,
        f"--gamma-file={dl2_files[signal]}",
        f"--cuts={irf_tools.cuts}",
        f"--benchmark-output={benchmarks}",
        *irf_tools.options,
    )
    card = read_card(cards[signal])
    with TableLoader(dl2_files[signal]) as loader:
        table = loader.read_subarray_events()
    valid = np.all([table[f"{name}_is_valid"] for name in DL2], axis=0)
    disc = (np.pi * card.scatter_radius**2).to_value(u.m**2)
    with fits.open(output) as irf:
        area = irf["EFFECTIVE AREA"].data["EFFAREA"].item()
        background = irf["BACKGROUND"].data["BKG"].item()
        assert {"PSF", "ENERGY DISPERSION"} < {hdu.name for hdu in irf}
    # The bin holds all showers: each of those selected stands for the same area. Only
    # those outside the reconstructed energies are cut away.
    selected = area / disc * card.runs * card.showers * card.reuse
    assert selected == pytest.approx(round(selected), rel=1e-4)
    assert 0.9 * valid.sum() < round(selected) <= valid.sum()
    assert background > 0
    with fits.open(benchmarks) as file:
        assert file["ANGULAR RESOLUTION"].data["N_EVENTS"].item() >= round(selected)
        assert file["SENSITIVITY"].data["FLUX_SENSITIVITY"].item() > 0


@pytest.mark.slow
def test_cuts_keep_their_share_of_the_signal(dl2_files, irf_tools):
    """Of the kind that needs no background."""
    algorithm = "--EventSelectionOptimizer.optimization_algorithm=PercentileCuts"
    gammas = f"--gamma-file={dl2_files['gamma']}"
    output = dl2_files["gamma"].with_name("percentile_cuts.fits")
    run(irf_tools.optimizer(), output, gammas, irf_tools.options[0], algorithm)
    cut = QTable.read(output, hdu="GH_CUTS")["cut"].item()
    with TableLoader(dl2_files["gamma"]) as loader:
        table = loader.read_subarray_events()
    valid = np.all([table[f"{name}_is_valid"] for name in DL2], axis=0)
    kept = table["ExtraTreesClassifier_prediction"][valid] >= cut
    assert kept.mean() == pytest.approx(0.68, abs=0.05)


def test_event_source_is_listed(capsys):
    assert "AirShowerEventSource" in EventSource.non_abstract_subclasses()
    info.info(event_sources=True, plugins=True)
    listed = capsys.readouterr().out
    assert "ctapipe_gammaphysnet.simulation.source.AirShowerEventSource" in listed


@pytest.mark.parametrize("kind", ["card", pytest.param("file", marks=pytest.mark.slow)])
def test_instrument_is_dumped(cards, tmp_path, request, kind):
    fixture = {"card": "cards", "file": "stereo_files"}[kind]
    path = request.getfixturevalue(fixture)["gamma"]
    argv = [f"--input={path}", f"--outdir={tmp_path}", "--format=hdf5"]
    argv.append(f"--provenance-log={tmp_path / 'provenance.log'}")
    run_tool(DumpInstrumentTool(), argv, cwd=tmp_path, raises=True)
    dumped = SubarrayDescription.from_hdf(tmp_path / "subarray.h5")
    assert dumped == EventSource(cards["gamma"]).subarray


@pytest.mark.slow
def test_file_is_described(stereo_files, monkeypatch, capsys):
    path = str(stereo_files["gamma"])
    monkeypatch.setattr(sys, "argv", ["ctapipe-fileinfo", path])
    fileinfo.main()
    described = yaml.safe_load(capsys.readouterr().out)[path]["CTA"]
    assert described["PRODUCT"]["DATA"]["CATEGORY"] == "Sim"
    assert "DL2" in described["PRODUCT"]["DATA"]["LEVELS"]
