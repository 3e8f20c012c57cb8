"""The predictor gives what the networks give, in any batches, precision and engine."""

import time

import numpy as np
import pytest
import torch
from device import DEVICE
from toy_sample import hexagonal_camera, toy_telescope

from ctapipe_gammaphysnet.model.predictor import (
    Predictor,
    calling_threads,
    select_device,
    set_threads,
)
from ctapipe_gammaphysnet.network.convolution import ENGINES
from ctapipe_gammaphysnet.network.gammaphysnet import GammaPhysNet
from ctapipe_gammaphysnet.network.lattice import CameraLattice

N = 20
N_OUTPUTS = {"energy": 1, "direction": 2, "impact": 2, "class": 2}


@pytest.fixture(scope="module")
def telescope():
    return toy_telescope(hexagonal_camera(3))


@pytest.fixture(scope="module")
def model(make_model, telescope):
    """Card and weights of an ensemble of three."""
    model = make_model(telescope, n_members=3)
    return model.card.networks[0], model.weights[0]


@pytest.fixture(scope="module")
def inputs(telescope):
    rng = np.random.default_rng(0)
    shape = (N, telescope.camera.geometry.n_pixels)
    charge = rng.normal(scale=2, size=shape) + rng.exponential(15, size=shape)
    time = rng.uniform(0, 40, size=shape)
    return np.stack([charge, time], axis=1).astype(np.float32)


@pytest.fixture(autouse=True)
def _one_thread():
    """For such small networks more only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_close(outputs, expected, atol=1e-5):
    assert set(outputs) == set(expected)
    for task, values in outputs.items():
        np.testing.assert_allclose(
            values, expected[task], rtol=0, atol=atol, err_msg=task
        )


def test_each_member_gives_what_its_network_gives(model, inputs):
    card, weights = model
    outputs = Predictor(card, weights)(inputs)
    camera = card.telescope.camera
    network = GammaPhysNet(
        card.network, CameraLattice.from_positions(camera.pix_x_m, camera.pix_y_m)
    ).eval()
    for number, member in enumerate(weights):
        network.load_state_dict({k: torch.from_numpy(v) for k, v in member.items()})
        with torch.no_grad():
            expected = network(torch.from_numpy(inputs))
        logits = expected.pop("class").numpy()
        expected["class"] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert_close({k: v[number] for k, v in outputs.items()}, expected, atol=1e-6)


def test_outputs_have_members_images_and_values(model, inputs):
    outputs = Predictor(*model)(inputs)
    assert {task: values.shape for task, values in outputs.items()} == {
        task: (3, N, n) for task, n in N_OUTPUTS.items()
    }
    assert {values.dtype for values in outputs.values()} == {np.dtype(np.float64)}


def test_outputs_differ_between_members_and_images(model, inputs):
    """Lest the other tests compare constants."""
    for values in Predictor(*model)(inputs).values():
        assert values.std(axis=0).min() > 1e-3
        assert values.std(axis=1).min() > 1e-3


def test_probabilities_add_up_to_one(model, inputs):
    probabilities = Predictor(*model)(inputs)["class"]
    np.testing.assert_allclose(probabilities.sum(axis=2), 1, rtol=0, atol=1e-6)
    assert probabilities.min() >= 0


def test_there_is_a_probability_for_each_class(make_model, telescope, inputs):
    model = make_model(
        telescope, tasks=("class",), classes=("gamma", "proton", "electron")
    )
    outputs = Predictor(model.card.networks[0], model.weights[0])(inputs)
    assert set(outputs) == {"class"}
    assert outputs["class"].shape == (1, N, 3)
    np.testing.assert_allclose(outputs["class"].sum(axis=2), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_size", [3, 10, 19, 20, 21])
def test_batches_give_the_same_as_all_images_at_once(
    model, inputs, batch_size, monkeypatch
):
    """Whether they divide the images, or leave an incomplete last batch."""
    expected = Predictor(*model)(inputs)
    predictor = Predictor(*model, batch_size=batch_size)
    sizes = []

    def spy(network, features, *batch, original=predictor._predict_member):
        sizes.append(len(batch[0]))
        return original(network, features, *batch)

    monkeypatch.setattr(predictor, "_predict_member", spy)
    assert_close(predictor(inputs), expected)
    assert max(sizes) <= batch_size
    assert sum(sizes) == 3 * N


def test_images_one_by_one_give_the_same_as_all_at_once(model, inputs):
    predictor = Predictor(*model)
    each = [predictor(inputs[i : i + 1]) for i in range(N)]
    one_by_one = {
        task: np.concatenate([outputs[task] for outputs in each], axis=1)
        for task in N_OUTPUTS
    }
    assert_close(one_by_one, predictor(inputs))


def test_no_images_give_no_outputs(model, inputs):
    outputs = Predictor(*model)(inputs[:0])
    assert {task: values.shape for task, values in outputs.items()} == {
        task: (3, 0, n) for task, n in N_OUTPUTS.items()
    }


def test_the_inputs_are_not_modified(model, inputs):
    before = inputs.copy()
    Predictor(*model)(inputs)
    np.testing.assert_array_equal(inputs, before)


def test_the_weights_of_the_model_are_not_modified(model, inputs):
    card, weights = model
    before = [{k: v.copy() for k, v in member.items()} for member in weights]
    Predictor(card, weights)(inputs)
    for member, copy in zip(weights, before, strict=True):
        for name, values in member.items():
            np.testing.assert_array_equal(values, copy[name])


def test_pixels_are_those_of_the_card(model, inputs):
    """The order of the pixels matters: another one gives something else."""
    predictor = Predictor(*model)
    changed = predictor(inputs[..., ::-1].copy())["direction"]
    assert np.abs(changed - predictor(inputs)["direction"]).max() > 1e-2


def test_both_engines_give_the_same(model, inputs):
    outputs = {}
    for engine, kind in ENGINES.items():
        predictor = Predictor(*model, engine=engine)
        layers = {type(layer) for layer in predictor.members[0].modules()}
        assert layers & set(ENGINES.values()) == {kind}
        outputs[engine] = predictor(inputs)
    assert_close(outputs["indexed"], outputs["lattice"])
    assert_close(outputs["lattice"], Predictor(*model)(inputs), atol=1e-12)


def test_only_one_engine_needs_compiled_code(model, inputs, monkeypatch):
    expected = Predictor(*model)(inputs)
    monkeypatch.setattr("numba.core.config.DISABLE_JIT", True)
    assert_close(Predictor(*model, engine="indexed")(inputs), expected)
    with pytest.raises(ValueError, match="'lattice' .* NUMBA_DISABLE_JIT .*'indexed'"):
        Predictor(*model)


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_is_close_to_float32(model, inputs, engine):
    """To a few times its rounding, 2**-8, of outputs of about 1."""
    exact = Predictor(*model, engine=engine)(inputs)
    rounded = Predictor(*model, precision="bfloat16", engine=engine)(inputs)
    assert_close(rounded, exact, atol=0.02)
    for task, values in rounded.items():
        assert not np.array_equal(values, exact[task])
    np.testing.assert_allclose(rounded["class"].sum(axis=2), 1, rtol=0, atol=1e-6)


@pytest.mark.skipif(
    DEVICE == "cpu", reason="needs a GPU: set GAMMAPHYSNET_TEST_DEVICE to it"
)
@pytest.mark.parametrize(("precision", "atol"), [("float32", 1e-4), ("bfloat16", 0.02)])
def test_the_gpu_gives_the_same_as_the_cpu(model, inputs, precision, atol):
    on_gpu = Predictor(*model, device=select_device(DEVICE), precision=precision)
    assert_close(on_gpu(inputs), Predictor(*model)(inputs), atol=atol)


def test_the_device_is_the_cpu_where_it_is_asked_for():
    assert select_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_the_gpu_where_there_is_one(monkeypatch, gpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(gpu))
    assert select_device("auto") == torch.device(device)


def test_gpus_are_chosen_by_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert select_device("cuda:1") == torch.device("cuda", 1)
    assert select_device("cuda") == torch.device("cuda")
    with pytest.raises(ValueError, match="'cuda:2' is not on this machine: .* sees 2"):
        select_device("cuda:2")
    with pytest.raises(ValueError, match="'cuda:256' is not on this machine"):
        select_device("cuda:256")


def test_a_gpu_that_is_not_there_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="'cuda:99' is not on this machine") as info:
        select_device("cuda:99")
    assert "Use device 'cpu', or 'auto'" in str(info.value)


@pytest.mark.parametrize("name", ["gpu", "", "CPU", "cuda:-1", "meta"])
def test_an_unknown_device_is_an_error_that_says_what_to_do(name):
    with pytest.raises(ValueError, match=f"'{name}'.*'cpu'.*'auto'"):
        select_device(name)


def test_the_number_of_threads_is_set():
    set_threads(3)
    assert torch.get_num_threads() == 3
    set_threads(2)
    assert torch.get_num_threads() == 2


def test_the_number_of_threads_is_left_to_pytorch():
    set_threads(None)
    assert torch.get_num_threads() == 1


def test_outputs_do_not_depend_on_the_number_of_threads(model, inputs):
    predictor = Predictor(*model)
    expected = predictor(inputs)
    set_threads(2)
    assert_close(predictor(inputs), expected)


@pytest.mark.parametrize(("n_images", "expected"), [(1, 1), (15, 1), (20, 2), (60, 3)])
def test_heads_of_few_images_do_not_wait_for_threads(
    model, inputs, n_images, expected, monkeypatch
):
    predictor = Predictor(*model)
    threads = []

    def spy(*arguments, original=GammaPhysNet.predict):
        threads.append(torch.get_num_threads())
        return original(*arguments)

    monkeypatch.setattr(GammaPhysNet, "predict", spy)
    set_threads(3)
    predictor(np.tile(inputs, (3, 1, 1))[:n_images])
    assert threads == 3 * [expected]
    assert torch.get_num_threads() == 3


def test_threads_are_as_before_after_an_error(model, inputs, monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(GammaPhysNet, "predict", fail)
    set_threads(3)
    with pytest.raises(MemoryError):
        Predictor(*model)(inputs)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("engine", ["lattice", "indexed"])
def test_several_threads_can_predict_at_once(model, inputs, engine):
    predictor = Predictor(*model, engine=engine, batch_size=7)
    expected = predictor(inputs)
    set_threads(2)
    with calling_threads(4) as threads:
        for outputs in threads.map(predictor, [inputs] * 12):
            assert_close(outputs, expected)


def test_calling_threads_have_the_number_of_threads_that_was_set():
    set_threads(3)
    with calling_threads(1) as threads:
        # As the heads of few images do, in another thread.
        torch.set_num_threads(1)
        assert threads.submit(torch.get_num_threads).result() == 3
        assert threads.submit(torch.get_num_threads).result() == 3


def test_pytorch_computes_for_one_thread_at_a_time(model, inputs, monkeypatch):
    """With two its threads would wait for each other."""
    running, most = 0, 0

    def spy(network, values, original=GammaPhysNet.features):
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.005)
        result = original(network, values)
        running -= 1
        return result

    monkeypatch.setattr(GammaPhysNet, "features", spy)
    predictor = Predictor(*model, engine="indexed")
    with calling_threads(4) as threads:
        list(threads.map(predictor, [inputs] * 4))
    assert most == 1
