"""The benchmarks run, and count the arithmetic right. How fast is for them to say."""

import importlib
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_sample as toy
from official_files import DATA, needs

from ctapipe_gammaphysnet.network import CameraLattice, NetworkConfig

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def read_tables(text):
    """Rows of all tables, without those that separate the headers."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and "|--" not in line.replace(" ", "")
    ]


@pytest.fixture
def load(monkeypatch):
    """A benchmark as a module. Some import others from beside them."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return importlib.import_module


@pytest.fixture
def inference(load, monkeypatch):
    """The benchmark of the prediction as a module, quick and inexact."""
    module = load("inference")
    monkeypatch.setattr(module, "MIN_DURATION", 0)
    monkeypatch.setattr(module, "MATRIX_SIZE", {"cpu": 64})
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


@pytest.fixture
def training(inference, load):
    """The benchmark of the training, likewise."""
    return load("training")


@pytest.mark.parametrize("has_units", [True, False])
def test_table_has_a_line_for_each_variant(inference, capsys, monkeypatch, has_units):
    def make_matrix_product(precision, device):
        is_slow = has_units == (precision == "float32")
        return lambda: time.sleep(0.02 if is_slow else 0.001), 10**6

    monkeypatch.setattr(inference, "make_matrix_product", make_matrix_product)
    variants = {*product(["lattice", "indexed"], ["float32", "bfloat16"])}
    if not has_units:
        variants.remove(("indexed", "bfloat16"))
    inference.main(["--rounds=1", "--batch-sizes", "1", "2", "--n-jobs=1"])
    text = capsys.readouterr().out
    assert "threads: 1, PyTorch" in text
    assert "0.366 GFLOP per image" in text
    header, *rows = read_tables(text)
    assert header[:3] == ["batch", "engine", "precision"]
    assert sorted(tuple(row[:3]) for row in rows) == sorted(
        (size, *variant) for size in ("1", "2") for variant in variants
    )
    assert ("no units" in text) != has_units
    for _, engine, precision, rate, spread, ratio, fraction in rows:
        assert float(rate) > 0
        assert all(float(bound) > 0 for bound in spread.split("-"))
        assert float(ratio) > 0
        assert float(fraction.removesuffix("%")) > 0
        if (engine, precision) == ("indexed", "float32"):
            assert ratio == "1.00"


def test_flop_of_a_tiny_network(inference):
    # 7 pixels; every second row and column of them leaves 2.
    geometry = toy.hexagonal_camera(n_rings=1)
    lattice = CameraLattice.from_geometry(geometry)
    assert (len(lattice), len(lattice.downsampled())) == (7, 2)
    config = NetworkConfig(blocks=1, channels=(2, 3), hidden=4)

    # positions x taps x channels in x channels out
    stem = 7 * 7 * 2 * 2
    first_block = 2 * (7 * 7 * 2 * 2)
    # to one hidden channel and back, once; to one hidden channel and to one, per pixel
    first_attention = 2 * 1 + 1 * 2 + 7 * (2 * 1 + 1 * 1)
    # two strided convolutions, one of them the shortcut, and one that is not
    second_block = 2 * (2 * 7 * 2 * 3) + 2 * 7 * 3 * 3
    second_attention = 3 * 1 + 1 * 3 + 2 * (3 * 1 + 1 * 1)
    energy = 3 * 4 + 4 * 1
    # 2 positions with 3 channels
    geometry_tasks = 6 * 4 + 4 * 2 + 4 * 2
    particle_class = 6 * 2
    multiplications = (
        stem
        + first_block
        + first_attention
        + second_block
        + second_attention
        + energy
        + geometry_tasks
        + particle_class
    )
    assert inference.count_flop(config, lattice) == 2 * multiplications


@pytest.mark.parametrize(
    ("precision", "has_units"),
    [("float32", False), ("bfloat16", True), ("bfloat16", False)],
)
def test_training_has_a_line_for_each_engine(
    training, capsys, monkeypatch, precision, has_units
):
    fast = ("float32", "bfloat16") if has_units else ("float32",)
    monkeypatch.setattr(training, "choose_variants", lambda device: (fast, []))
    options = ["--rounds=1", "--blocks=1", "--n-jobs=1", f"--precision={precision}"]
    options += ["--steps=2", "--repeat=1"]
    training.main([*options, "--batch-sizes", "2", "4"])
    header, *rows = read_tables(capsys.readouterr().out)
    *rows, streamed, two, four = rows
    assert streamed[2] == "waiting for images"
    assert [two[0], four[0]] == ["2", "4"]
    for row in (two, four):
        assert float(row[1]) > 0
        assert 0 < float(row[2].rstrip("%")) < 100
    assert header[:2] == ["batch", "engine"]
    assert sorted(tuple(row[:2]) for row in rows) == sorted(
        product(["2", "4"], ["lattice", "indexed"])
    )
    assert header[-1] == "of matrix products"
    for size, engine, steps, images, spread, ratio, of_products in rows:
        if precision in fast:
            assert float(of_products.rstrip("%")) > 0
        else:
            assert of_products == ""
        assert float(images) == pytest.approx(int(size) * float(steps), abs=0.06)
        assert all(float(bound) > 0 for bound in spread.split("-"))
        assert float(ratio) > 0
        if engine == "indexed":
            assert ratio == "1.00"


def test_step_of_training_lowers_the_loss(training):
    config = NetworkConfig(blocks=1, channels=(4,), hidden=8)
    lattice = CameraLattice.from_geometry(toy.hexagonal_camera(n_rings=2))
    batch = training.make_batch(8, lattice, torch.device("cpu"))
    network = training.GammaPhysNet(config, lattice)
    step = training.make_step(network, torch.device("cpu"), "float32")

    def loss():
        return sum(training.task_losses(network(batch["inputs"]), batch).values())

    before = loss()
    for _ in range(30):
        step(batch)
    assert loss() < before


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--rounds=0", "must be at least 1"),
        ("--device=cuda:99", "is not on this machine"),
        ("--device=tpu", "tpu"),
    ],
)
def test_wrong_option_is_explained(inference, capsys, option, complaint):
    with pytest.raises(SystemExit):
        inference.main([option])
    assert complaint in capsys.readouterr().err


def test_the_way_to_dl2_is_taken_apart(load, capsys):
    load("apply").main(["--blocks=1", "--rounds=1", "--max-events=3"])
    header, bulk, _, rest, _, one, four = read_tables(capsys.readouterr().out)
    assert header[1:4] == ["images/s", "network alone", "ratio"]
    assert header[4:] == ["reading", "writing"]
    rate, alone = map(float, bulk[1:3])
    ratio, reading, writing = (float(share.rstrip("%")) for share in bulk[3:])
    assert ratio == pytest.approx(100 * rate / alone, rel=0.01)
    assert min(reading, writing) > 0
    assert reading + writing < 100
    assert rest[0] == bulk[0]
    per_second, per_core, *shares = (float(n.rstrip("%")) for n in rest[1:])
    assert 0 < per_second < 3 * per_core
    assert len(shares) == 4
    assert 0 < min(shares) <= max(shares) < 200
    assert [one[0], four[0]] == ["1", "4"]
    for row in (one, four):
        ours, network, ratio, theirs = (float(n.rstrip("%")) for n in row[2:])
        assert 0 < network < ours < 100
        # Each is rounded to 0.1 %, and the ratio to 0.01.
        lowest = (ours - 0.05) / (network + 0.05) - 0.01
        assert lowest < ratio < (ours + 0.05) / (network - 0.05) + 0.01
        assert ours + theirs == pytest.approx(100, abs=0.2)


@pytest.mark.slow
def test_the_start_is_compared_with_that_of_ctapipe(load, capsys):
    start = load("start")
    start.main(["--rounds=1", "--only=import ctapipe"])
    _, reference, package = read_tables(capsys.readouterr().out)
    assert reference[0] == start.REFERENCE
    assert package[0] == "import ctapipe_gammaphysnet"
    for row in (reference, package):
        cpu, clock, beyond, ratio = map(float, row[1:])
        assert min(cpu, clock, ratio) > 0
        assert beyond == pytest.approx(cpu - float(reference[1]), abs=0.02)


def test_a_first_event_finds_nothing_compiled(load, tmp_path):
    start = load("start")
    runs = start.first_events(tmp_path)
    assert [name.partition(", ")[2] for name in runs] == ["first run"] * 2 + [
        "second run"
    ] * 2
    caches = [cache for _, cache in runs.values()]
    assert caches[:2] == caches[2:]
    assert not any(cache.exists() for cache in caches)


def test_images_to_train_on_are_counted(load, capsys):
    load("training_data").main(["--repeat=2", "--epochs=1", "--window=200"])
    _, index, *rows = read_tables(capsys.readouterr().out)
    n_all, n_selected = int(index[1]), int(rows[0][1])
    # An epoch ends with the last full batch.
    assert 128 * 3 <= n_selected <= n_all
    assert int(rows[-1][1]) == n_all // 2


def assert_passed(checks):
    for check in checks:
        assert check.low < check.high
        assert check.passed, f"{check.name}: {check.value}"


def test_the_light_is_that_of_official_telescopes(load):
    """The quick part of the physics; the rest takes minutes."""
    light = load("simulation_light")
    assert_passed(light.check_efficiency())
    assert_passed(light.check_dark_pixels())


def test_a_quantity_outside_its_range_is_marked_and_counted(load, capsys):
    checks = load("checks")
    inside, outside = (checks.around("x", value, 1.0, 0.1, "y") for value in (1.05, 2))
    assert checks.print_checks([inside, outside, outside]) == 2
    assert capsys.readouterr().out.count("OUTSIDE") == 2


@needs("gamma_prod6_lst_run7_za40.corsika.zst")
def test_photons_of_an_official_file_make_its_light(load):
    checks = list(load("simulation_official").check_official(DATA))
    assert len(checks) == 5
    assert_passed(checks)


def test_photons_from_the_focus_are_seen_as_parallel(load):
    """Those of a point in focus, on the axis, wherever they hit the dish."""
    official = load("simulation_official")
    x_cm, y_cm = np.random.default_rng(0).uniform(-1000, 1000, (2, 50))
    away = np.column_stack([x_cm, y_cm, np.full(50, -100 * official.LST.focus_m)])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    bunches = {"x": x_cm, "y": y_cm, "cx": away[:, 0], "cy": away[:, 1]}
    rays = official.rays_of(bunches | {"time": np.arange(50.0)})
    np.testing.assert_allclose(rays[:, :3], [[0, 0, -1]] * 50, atol=1e-5)
    np.testing.assert_array_equal(rays[:, 3], np.arange(50))


def test_a_share_of_the_light_leaves_that_share_of_the_photons(load):
    official = load("simulation_official")
    band_nm = (300.0, 500.0)
    emitted = official.yield_of_photons("la_palma", 1.0, band_nm)
    photons = {
        "site": "la_palma",
        "band_nm": band_nm,
        "bunches": {"photons": np.array([5.0, 2.0]), "zem": np.array([8e5, 12e5])},
    }
    left = official.surviving_each(photons, 0.3 * emitted)
    np.testing.assert_allclose(left, [1.5, 0.6])


def test_an_image_has_the_shape_of_itself(load):
    official = load("simulation_official")
    geometry = official.make_subarray("lst1", "la_palma").tel[1].camera.geometry
    x, y = geometry.pix_x.to_value("m"), geometry.pix_y.to_value("m")
    image = np.rint(90 * np.exp(-((x / 0.2) ** 2) - (y / 0.1) ** 2)).astype(int)
    (same,) = official.compare_shapes(image, geometry, [image] * 10)
    np.testing.assert_allclose(same, 0, atol=1e-9)
    wider = np.rint(90 * np.exp(-((x / 0.2) ** 2) - (y / 0.12) ** 2)).astype(int)
    (other,) = official.compare_shapes(image, geometry, [wider] * 20)
    assert other[0] == pytest.approx(np.log(1.2), abs=0.05)
    assert other[1] == pytest.approx(0, abs=0.05)


def test_a_folder_without_official_files_is_an_error(load, tmp_path):
    with pytest.raises(SystemExit, match="has no files NAME.corsika.zst"):
        list(load("simulation_official").check_official(tmp_path))


def test_all_about_a_gpu_on_a_cpu(inference, load, tmp_path, capsys):
    gpu = load("gpu")
    gpu.main(
        [
            *("--output", str(tmp_path / "page"), "--device=cpu", "--blocks=1"),
            *("--rounds=1", "--batch-sizes", "1", "2", "--training-sizes=2"),
            *("--methods", "predictor", "eager", "--sections"),
            *(name for name in gpu.SECTIONS if name != "Tests"),
        ]
    )
    text = (tmp_path / "page/gpu.md").read_text(encoding="utf-8")
    assert text == capsys.readouterr().out
    assert "failed" not in text
    rows = read_tables(text)
    compared = [row for row in rows if row[0] in ("float32", "bfloat16")]
    assert len(compared) == 8
    assert all(float(row[2]) == 0 for row in compared)
    predictions = {tuple(row[:3]) for row in rows if len(row) == 7}
    assert len(predictions) == 1 + 2 * (2 + 3)
    assert [row[:2] for row in rows if len(row) == 5][1:] == [
        ["2", "float32"],
        ["2", "bfloat16"],
    ]


def test_what_fails_on_a_gpu_is_named_and_the_rest_measured(
    inference, load, tmp_path, monkeypatch
):
    def fail(network, args):
        raise RuntimeError("out of memory")

    gpu = load("gpu")
    monkeypatch.setitem(gpu.SECTIONS, "Prediction", fail)
    monkeypatch.setattr(gpu, "TESTS", tmp_path / "none")
    arguments = ["--output", str(tmp_path), "--device=cpu", "--blocks=1"]
    gpu.main([*arguments, "--sections", "Prediction", "Tests"])
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "failed: RuntimeError: out of memory" in text
    assert "The tests are not here" in text
