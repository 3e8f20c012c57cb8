"""Telescopes under other names, with pixels in another order, are reconstructed alike.

Names and orders are planted in files; predictions must equal those of the original.
"""

import shutil

import numpy as np
import pytest
import tables
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import read_table
from rearrange import random_order, rearrange_pixels
from run_tools import apply, process
from toy_sample import small_array, write_toy_file

from ctapipe_gammaphysnet.evaluation import plots
from ctapipe_gammaphysnet.explanation.run import Explanation
from ctapipe_gammaphysnet.model.file import write_model
from ctapipe_gammaphysnet.model.telescope import TelescopeMismatchError
from ctapipe_gammaphysnet.tools.evaluate import EvaluateGammaPhysNet
from ctapipe_gammaphysnet.tools.explain import ExplainGammaPhysNet

LARGE, SMALL = 61, 37  # pixels of the cameras of telescopes 1, 2 and 3, 4 of toy_file
NAME = "LST_LST_RealCam"


@pytest.fixture(scope="module")
def renamed(toy_file, tmp_path_factory):
    """Telescopes 3 and 4 have another name and order, telescope 2 has an order."""
    path = tmp_path_factory.mktemp("renamed") / "renamed.dl1.h5"
    shutil.copy(toy_file, path)
    rearrange_pixels(path, [3, 4], random_order(SMALL), "RealCam")
    return rearrange_pixels(path, [2], random_order(LARGE))


def dl2_tables(path):
    with tables.open_file(path) as file:
        names = [node._v_pathname for node in file.walk_nodes("/dl2", "Table")]
    return {name: read_table(path, name) for name in names}


def assert_same_tables(found, expected, rtol=0):
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].colnames == table.colnames
        for column in table.colnames:
            values, there = (np.asarray(t[column]) for t in (found[name], table))
            if values.dtype.kind == "f":
                np.testing.assert_allclose(values, there, rtol, err_msg=name)
            else:
                np.testing.assert_array_equal(values, there, err_msg=name)


@pytest.mark.parametrize("reconstruct", [process, apply])
def test_predictions_are_those_of_the_original(
    toy_file, renamed, toy_model, reconstruct, tmp_path
):
    expected, found = (
        reconstruct(path, toy_model, tmp_path / f"{path.name}.dl2.h5")
        for path in (toy_file, renamed)
    )
    expected = dl2_tables(expected)
    # Of three kinds for the array and four telescopes, and statistics.
    assert len(expected) >= 3 * 5 + 1
    assert_same_tables(dl2_tables(found), expected)


def test_names_and_pixels_of_the_output_are_those_of_the_input(
    renamed, toy_model, tmp_path
):
    output = apply(renamed, toy_model, tmp_path / "a.dl2.h5", "--dl1-images")
    with tables.open_file(output) as found, tables.open_file(renamed) as expected:
        layout = "/configuration/instrument/subarray/layout"
        assert found.root[layout][:]["tel_description"][2].decode() == NAME
        node = "/dl1/event/telescope/images/tel_003"
        images = (file.root[node].col("image") for file in (found, expected))
        np.testing.assert_array_equal(*images)


@pytest.mark.parametrize("reconstruct", [process, apply])
def test_a_turned_camera_has_no_network(toy_file, toy_model, reconstruct, tmp_path):
    path = tmp_path / "turned.dl1.h5"
    shutil.copy(toy_file, path)
    order = random_order(SMALL)
    rearrange_pixels(path, [3, 4], order, "RealCam", turn=np.exp(0.5j))
    with pytest.raises(ToolConfigurationError) as info:
        reconstruct(path, toy_model, tmp_path / "a.dl2.h5")
    message = str(info.value)
    assert f"no network for telescope type {NAME} (" in message
    assert "telescope 3 differs from LST_LST_OtherCam: " in message
    assert "its camera RealCam is rotated by 28.65°" in message
    assert not (tmp_path / "a.dl2.h5").exists()


def test_a_turned_camera_of_the_same_name_is_refused(toy_file, toy_model, tmp_path):
    path = tmp_path / "turned.dl1.h5"
    shutil.copy(toy_file, path)
    rearrange_pixels(path, [3], turn=np.exp(0.5j))
    with pytest.raises(TelescopeMismatchError, match=r"telescope 3.* rotated by 28.65"):
        apply(path, toy_model, tmp_path / "a.dl2.h5")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Gammas and protons, in two telescopes of one type."""
    folder = tmp_path_factory.mktemp("pair")
    array = small_array(3, positions=[(0.0, 0.0, 0.0), (60.0, 40.0, 10.0)])
    return [
        write_toy_file(folder / f"{name}.dl1.h5", name, 25, seed=3, array=array)
        for name in ("gamma", "proton")
    ]


@pytest.fixture(scope="module")
def pair_model(pair, make_model, tmp_path_factory):
    (telescope,) = SubarrayDescription.from_hdf(pair[0]).telescope_types
    path = tmp_path_factory.mktemp("model") / "pair.safetensors"
    write_model(path, make_model(telescope, n_members=2))
    return path


def rearranged(paths, folder, tel_ids, name):
    copies = [shutil.copy(path, folder / path.name) for path in paths]
    return [rearrange_pixels(p, tel_ids, random_order(37), name) for p in copies]


def test_evaluation_finds_the_same(pair, pair_model, tmp_path, monkeypatch):
    """With one telescope under another name, in one of the files."""
    monkeypatch.setattr(plots, "draw_all", lambda *arguments: {})
    (tmp_path / "renamed").mkdir()
    other = [*pair[:1], *rearranged(pair[1:], tmp_path / "renamed", [2], "RealCam")]
    results = []
    for number, (gamma, proton) in enumerate((pair, other)):
        output = tmp_path / str(number)
        argv = [
            *(f"--signal={gamma}", f"--background={proton}", f"--output-dir={output}"),
            *(f"--model=DA={pair_model}", "--min-events=2", "--no-progress"),
            *("--EvaluateGammaPhysNet.n_bootstrap=2", f"--provenance-log={output}.log"),
        ]
        run_tool(EvaluateGammaPhysNet(), argv=argv, cwd=tmp_path, raises=True)
        results.append(read_table(output / "tables.h5", "/overall"))
    assert_same_tables({"": results[1]}, {"": results[0]}, rtol=1e-6)


def explain(path, model, output):
    argv = [
        *(f"--input={path}", f"--model=DA={model}", f"--output-dir={output}"),
        *("--best=2", "--statistics", "--no-progress", f"--provenance-log={output}.p"),
    ]
    run_tool(ExplainGammaPhysNet(), argv=argv, cwd=output.parent, raises=True)
    return output / "explanation.h5"


def test_explanations_are_in_the_order_of_the_file(
    pair, pair_model, tmp_path, monkeypatch
):
    # Drawing takes longer than all the rest.
    monkeypatch.setattr(Explanation, "_draw", lambda *arguments: None)
    (tmp_path / "renamed").mkdir()
    other, _ = rearranged(pair, tmp_path / "renamed", [1, 2], "RealCam")
    expected = explain(pair[0], pair_model, tmp_path / "expected")
    found = explain(other, pair_model, tmp_path / "found")
    there = read_table(expected, "/maps/DA/LST_LST_ToyCam")
    here = read_table(found, f"/maps/DA/{NAME}")
    order = random_order(37)
    for column in there.colnames:
        values = np.asarray(there[column])
        if values.ndim > 1:
            values = values[..., order]
        np.testing.assert_allclose(np.asarray(here[column]), values, 1e-4, 1e-6)
    for node in ("/statistics/events", "/statistics/models/DA"):
        one, two = read_table(expected, node), read_table(found, node)
        for column in two.colnames:
            if two[column].dtype.kind == "f":
                np.testing.assert_allclose(two[column], one[column], 1e-3, 1e-5)


def test_telescopes_of_one_name_in_two_orders_are_not_explained(
    pair, pair_model, tmp_path
):
    other, _ = rearranged(pair, tmp_path, [2], None)
    with pytest.raises(ToolConfigurationError, match="telescope 2 has its pixels in"):
        explain(other, pair_model, tmp_path / "out")
