"""A network that is applied outside of its training's conditions says so."""

import numpy as np
import pytest
from ctapipe.core import run_tool
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import EventSource, read_table
from ctapipe.tools.process import ProcessorTool

from ctapipe_gammaphysnet.events.preparation import InputPreparation
from ctapipe_gammaphysnet.model.card import DomainCard, InputCard
from ctapipe_gammaphysnet.model.domain import (
    BACKGROUND_NOT_COMPARED,
    BACKGROUND_OUTSIDE,
    POINTING_OUTSIDE,
    OutsideDomainError,
)
from ctapipe_gammaphysnet.model.file import Model, write_model
from ctapipe_gammaphysnet.network import CameraLattice
from ctapipe_gammaphysnet.reconstructor import GammaPhysNetReconstructor
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet

SAMPLE = "examples/data/sample_gamma.dl1.h5"


@pytest.fixture(scope="module")
def sample(pytestconfig):
    return pytestconfig.rootpath / SAMPLE


@pytest.fixture(scope="module")
def subarray(sample):
    return SubarrayDescription.from_hdf(sample)


@pytest.fixture(scope="module")
def domain(sample, subarray):
    """The conditions of the sample's own images."""
    geometry = subarray.tel[1].camera.geometry
    prepare = InputPreparation(InputCard(), CameraLattice.from_geometry(geometry))
    table = read_table(sample, "/dl1/event/telescope/images/tel_001")
    *_, background = prepare.with_background(
        *(table[name] for name in ("image", "peak_time", "image_mask"))
    )
    spread = [0.05, 0.5, 0.95]
    return DomainCard(
        pedestal_pe=tuple(np.quantile(background.pedestal_pe, spread)),
        noise_pe=tuple(np.quantile(background.noise_pe, spread)),
        missing_pixels=(0.0, 0.0, 0.0),
        peak_time_spread_ns=(9.0, 10.0, 11.0),
        intensity_pe=(50.0, 100.0, 5000.0),
        energy_tev=(0.02, 10.0),
        pointings_deg=((70.0, 180.0),),
    )


@pytest.fixture
def write(make_model, subarray, domain, tmp_path):
    """Write a model whose domain is the sample's, or another."""

    def write(**changes):
        model = make_model(subarray.tel[1], image="cleaned")
        (network,) = model.card.networks
        update = {"domain": domain.model_copy(update=changes)}
        networks = (network.model_copy(update=update),)
        card = model.card.model_copy(update={"networks": networks})
        path = tmp_path / "model.safetensors"
        write_model(path, Model(card, model.weights))
        return path

    return write


def run_events(sample, subarray, path, **options):
    """Reconstruct in an event loop; return the counts of images."""
    reconstruct = GammaPhysNetReconstructor(subarray, load_path=path, **options)
    with EventSource(sample, allowed_tels=[1, 2, 3, 4]) as source:
        for event in source:
            reconstruct(event)
    table = reconstruct.quality_query.to_table()
    return dict(zip(table["criteria"], table["counts"], strict=True))


def run_bulk(sample, path, output, *options):
    argv = [f"--input={sample}", f"--model={path}", f"--output={output}"]
    argv += [f"--provenance-log={output}.log", *options]
    run_tool(ApplyGammaPhysNet(), argv=argv, cwd=output.parent, raises=True)


def warnings(caplog):
    return [r.message for r in caplog.records if "trained for" in r.message]


def test_nothing_is_said_within_the_domain(
    sample, subarray, write, caplog, capsys, tmp_path
):
    path = write()
    counts = run_events(sample, subarray, path)
    assert counts[BACKGROUND_OUTSIDE] == counts[POINTING_OUTSIDE] == 0
    assert warnings(caplog) == []
    run_bulk(sample, path, tmp_path / "sample.dl2.h5")
    assert "is outside" not in capsys.readouterr().err


def test_both_ways_warn_once_for_a_telescope_type_and_cause(
    sample, subarray, write, caplog, capsys, tmp_path
):
    path = write(pedestal_pe=(0.0, 0.0, 0.0), pointings_deg=((50.0, 180.0),))
    counts = run_events(sample, subarray, path)
    # All but the last, fewer than 10, of each telescope.
    n_images = counts["image that the network can use"]
    assert 0 < counts[BACKGROUND_NOT_COMPARED] <= 4 * 9
    assert counts[BACKGROUND_OUTSIDE] == n_images - counts[BACKGROUND_NOT_COMPARED]
    assert counts[BACKGROUND_OUTSIDE] % 10 == 0
    assert counts[POINTING_OUTSIDE] == n_images > 200
    of_loop = warnings(caplog)
    capsys.readouterr()
    run_bulk(sample, path, tmp_path / "sample.dl2.h5")
    of_bulk = capsys.readouterr().err.splitlines()
    for name in (BACKGROUND_OUTSIDE, BACKGROUND_NOT_COMPARED):
        assert any(name in text and f" {counts[name]} " in text for text in of_bulk)
    for texts in (of_loop, of_bulk):
        for cause in ("altitude of 70.0 deg, the nearest", "median charge"):
            (text,) = (text for text in texts if cause in text)
            assert "(the first of 4 of type LST_LST_LSTCam; the others" in text
    assert any("pointing: 4 of 4 telescopes of type" in text for text in of_bulk)
    # A bulk run may have many files.
    outside = [text for text in of_bulk if "is outside" in text]
    assert all(f"{sample}: telescope" in text for text in outside)


def test_it_may_be_an_error(sample, subarray, write, tmp_path):
    path = write(noise_pe=(0.1, 0.1, 0.1))
    with pytest.raises(OutsideDomainError, match="noise of pixels without signal"):
        run_events(sample, subarray, path, outside_domain="error")
    output = tmp_path / "sample.dl2.h5"
    option = "--GammaPhysNetReconstructor.outside_domain=error"
    with pytest.raises(OutsideDomainError, match="outside_domain to 'warn'"):
        run_bulk(sample, path, output, option)
    assert not output.exists()


def test_it_may_be_ignored(sample, subarray, write, caplog):
    path = write(noise_pe=(0.1, 0.1, 0.1), pointings_deg=((20.0, 0.0),))
    counts = run_events(sample, subarray, path, outside_domain="ignore")
    assert BACKGROUND_OUTSIDE not in counts
    assert warnings(caplog) == []


def test_models_of_unknown_training_are_not_compared(
    sample, subarray, make_model, caplog, tmp_path
):
    path = tmp_path / "model.safetensors"
    write_model(path, make_model(subarray.tel[1]))
    assert BACKGROUND_OUTSIDE not in run_events(sample, subarray, path)
    assert warnings(caplog) == []


def test_a_running_extractor_and_cleaner_are_compared(
    sample, subarray, write, capsys, tmp_path
):
    """In ctapipe-process, where they make the images and masks."""
    path = write(image_extractors=("LocalPeakWindowSum",), image_cleaners=("Mine",))
    card = tmp_path / "gamma.airshower.yaml"
    card.write_text(
        "particle: gamma\nshowers: 1\nseed: 3\nreuse: 1\nenergy_min: 1 TeV\n"
        "scatter_radius: 50 m\narray: lst4\n"
    )
    for source, expected in ((card, 1), (sample, 0)):
        tool = ProcessorTool()
        argv = [f"--input={source}", f"--output={tmp_path / 'a.dl2.h5'}"]
        argv += ["--write-showers", "--reconstructor=GammaPhysNetReconstructor"]
        argv += [f"--GammaPhysNetReconstructor.load_path={path}", "--overwrite"]
        run_tool(tool, argv=argv, cwd=tmp_path, raises=True)
        told = capsys.readouterr().err
        for said in (
            "its image extractor is NeighborPeakWindowSum, that of the training was "
            "LocalPeakWindowSum",
            "its image cleaner is TailcutsImageCleaner, that of the training was Mine",
        ):
            assert told.count(said) == expected
