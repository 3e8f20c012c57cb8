"""Heatmaps and attention maps against their definitions, and against planted truth."""

import numpy as np
import pytest
import torch
import toy_sample
from astropy import units as u

from ctapipe_gammaphysnet.explanation.attention_maps import recorded_attention
from ctapipe_gammaphysnet.explanation.explainer import Explainer
from ctapipe_gammaphysnet.explanation.heatmaps import outputs_of
from ctapipe_gammaphysnet.explanation.upsampling import upsampling_matrix
from ctapipe_gammaphysnet.model.predictor import Predictor
from ctapipe_gammaphysnet.network import CameraLattice
from ctapipe_gammaphysnet.network.attention import DualAttention

#: Which output of the network is what: directions are fov_lon, fov_lat.
COLUMNS = {
    "class": ("class", 0),
    "energy": ("energy", 0),
    "fov_lon": ("direction", 0),
    "fov_lat": ("direction", 1),
    "impact_x": ("impact", 0),
    "impact_y": ("impact", 1),
}
#: Steps on hexagonal axes, (row, column), turned by 60°.
TURN = np.array([[0, -1], [1, 1]])


def telescope(rotation=0, n_rings=4):
    camera = toy_sample.hexagonal_camera(n_rings, rotation=rotation * u.deg)
    return toy_sample.toy_telescope(camera)


def lattice_of(telescope):
    return CameraLattice.from_geometry(telescope.camera.geometry)


def predictor_of(model, engine="lattice", n_members=None):
    (card,) = model.card.networks
    return card, Predictor(card, model.weights[0][:n_members], engine=engine)


def images(n, telescope, seed=0):
    n_pixels = telescope.camera.geometry.n_pixels
    rng = np.random.default_rng(seed)
    return rng.normal(1, 2, size=(n, 2, n_pixels)).astype(np.float32)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("engine", ["lattice", "indexed"])
def test_heatmaps_are_grad_cam_by_its_definition(make_model, attention, engine):
    """Weights: gradients averaged over the camera's pixels; then the ReLU."""
    # LSTCam's edge is ragged, and its rectangle has a quarter more positions.
    (lst,) = toy_sample.toy_subarray().telescope_types
    model = make_model(lst, channels=(4, 8, 8), attention=attention)
    card, predictor = predictor_of(model, engine)
    inputs = images(3, lst)
    maps = Explainer(card, predictor, "linear")(inputs)

    (network,) = predictor.members
    block = network.backbone.stages[-1][0]
    found = {}

    def keep(module, inputs, output):
        output.retain_grad()
        found["activations"] = output

    block.conv2[-1].register_forward_hook(keep)
    lattice = lattice_of(lst)
    coarse = lattice.downsampled().downsampled()
    assert len(coarse) == len(network.backbone.lattice)
    to_pixels = upsampling_matrix(lattice, 2, "linear")
    total = 0
    assert set(maps.heatmaps) == set(COLUMNS)
    for name, (task, column) in COLUMNS.items():
        predicted = network(torch.from_numpy(inputs))[task][:, column]
        predicted.sum().backward()
        activations = found["activations"].detach().double().numpy()
        gradients = found["activations"].grad.double().numpy()
        weights = gradients.sum(axis=2) / len(coarse)
        expected = np.einsum("nc,ncp->np", weights, activations)
        assert (expected < 0).any(), "the ReLU does something"
        scale = np.abs(expected).max()
        expected = np.maximum(expected, 0) @ to_pixels.T
        total += expected.sum()
        np.testing.assert_allclose(
            maps.heatmaps[name][0] / scale, expected / scale, rtol=0, atol=1e-6
        )
    assert total > 0


def test_predictions_are_those_of_the_predictor(make_model):
    lst = telescope()
    card, predictor = predictor_of(make_model(lst, n_members=2))
    inputs = images(4, lst)
    maps = Explainer(card, predictor)(inputs)
    for task, expected in predictor(inputs).items():
        np.testing.assert_allclose(maps.predictions[task], expected, atol=1e-6)
    assert maps.heatmaps["energy"].shape == (2, 4, 61)
    assert not np.allclose(*maps.heatmaps["energy"])


def planted_model(make_model, lst, channel, region):
    """A network whose class depends on one channel in one region of the last map.

    Channel 0 carries the charge, channel 1 the peak time; they are averaged over the
    neighbours at the pooling, and do not mix.
    """
    model = make_model(lst, attention=False, tasks=("class",))
    ((weights,),) = model.weights
    for name, values in weights.items():
        values[...] = 1 if name.endswith(("running_var", "norm.weight")) else 0
        # Weights of batch normalisations.
        if values.ndim == 1 and name.endswith(".weight"):
            values[...] = 1
    for carried in (0, 1):
        weights["backbone.stem.0.weight"][carried, carried, 3] = 1
        weights["backbone.stages.1.0.conv1.2.weight"][carried, carried] = 1 / 7
        weights["backbone.stages.1.0.conv2.2.weight"][carried, carried, 3] = 1
    head = weights["heads.class.weight"].reshape(2, 8, -1)
    head[0, channel, region] = 1
    return model


@pytest.mark.parametrize("channel", [0, 1])
def test_the_map_points_at_the_region_on_which_the_class_depends(make_model, channel):
    lst = telescope()
    lattice = lattice_of(lst)
    coarse = lattice.downsampled()
    # Charge in one corner of the camera, late light in the opposite one.
    regions = [coarse.cols <= 1, coarse.cols >= 3]
    model = planted_model(make_model, lst, channel, regions[channel])
    card, predictor = predictor_of(model)
    inputs = np.zeros((1, 2, len(lattice)), np.float32)
    places = []
    for number, columns in enumerate(([0, 1], [7, 8])):
        bright = lattice.order[np.isin(lattice.cols, columns)]
        inputs[0, number, bright] = 5
        places.append(bright)

    def gamma_logit(changed):
        (network,) = predictor.members
        with torch.no_grad():
            return network(torch.from_numpy(changed))["class"][0, 0].item()

    without_it, without_other = inputs.copy(), inputs.copy()
    without_it[0, :, places[channel]] = 0
    without_other[0, :, places[1 - channel]] = 0
    assert gamma_logit(inputs) > 1
    assert gamma_logit(without_it) == 0
    assert gamma_logit(without_other) == gamma_logit(inputs)

    (heatmap,) = Explainer(card, predictor)(inputs).heatmaps["class"][0]
    assert heatmap.argmax() in places[channel]
    # Outside, only what is within a cell of it: three columns.
    columns = np.empty(len(lattice), int)
    columns[lattice.order] = lattice.cols
    near = columns <= 4 if channel == 0 else columns >= 4
    assert heatmap[near].sum() == pytest.approx(heatmap.sum())
    assert heatmap[places[1 - channel]].sum() == 0


def turned(model, before, after):
    """The same network for a camera that is turned by 60°."""
    coarse = before.downsampled()
    assert len(coarse) == len(after.downsampled())
    taps = np.array(before.taps)
    tap = [before.taps.index(tuple(step)) for step in (taps @ TURN).tolist()]
    # The camera's centre stays.
    center = np.array([coarse.rows, coarse.cols]).T - coarse.rows.max() // 2
    row, col = (center @ TURN + coarse.rows.max() // 2).T
    position = after.downsampled().index_matrix[row, col]
    ((weights,),) = model.weights
    result = {}
    for name, values in weights.items():
        new = values.copy()
        if values.ndim == 3:
            new[..., tap] = values
        elif name in ("heads.class.weight", "geometry.0.weight"):
            per_position = values.reshape(len(values), -1, len(coarse))
            new = np.empty_like(per_position)
            new[..., position] = per_position
            new = new.reshape(values.shape)
        result[name] = new
    return result


@pytest.mark.parametrize("upsampling", ["cell", "linear"])
def test_maps_turn_with_image_and_camera(make_model, upsampling):
    """The pixels keep their numbers: what each of them gets stays."""
    before, after = telescope(0), telescope(60)
    model, other = make_model(before), make_model(after)
    assert not np.array_equal(lattice_of(before).order, lattice_of(after).order)
    card, predictor = predictor_of(model)
    weights = turned(model, lattice_of(before), lattice_of(after))
    (turned_card,) = other.card.networks
    turned_predictor = Predictor(turned_card, [weights])
    inputs = images(3, before)
    maps = Explainer(card, predictor, upsampling)(inputs)
    found = Explainer(turned_card, turned_predictor, upsampling)(inputs)
    for part in ("heatmaps", "attention"):
        for name, expected in getattr(maps, part).items():
            scale = expected.max()
            assert scale > 0
            assert np.ptp(expected) > 0.01 * scale
            np.testing.assert_allclose(
                getattr(found, part)[name] / scale, expected / scale, atol=2e-5
            )


def test_what_is_no_pixel_never_carries_weight(make_model):
    """Both engines agree, though only one has a rectangle around the camera."""
    (lst,) = toy_sample.toy_subarray().telescope_types
    model = make_model(lst, channels=(4, 8, 8))
    inputs = images(2, lst)
    found = [
        Explainer(*predictor_of(model, engine))(inputs)
        for engine in ("lattice", "indexed")
    ]
    for part in ("heatmaps", "attention"):
        for name, expected in getattr(found[0], part).items():
            assert expected.shape == (1, 2, 1855)
            np.testing.assert_allclose(
                getattr(found[1], part)[name], expected, atol=1e-5 * expected.max()
            )


def test_attention_times_input_is_what_the_module_outputs(make_model):
    lst = telescope()
    card, predictor = predictor_of(make_model(lst, channels=(4, 8, 8)))
    (network,) = predictor.members
    passed = []

    def keep(module, inputs, output):
        passed.append((inputs[0], output, module.channel(inputs[0])))

    for module in network.modules():
        if isinstance(module, DualAttention):
            module.register_forward_hook(keep)
    inputs = images(3, lst)
    with torch.no_grad(), recorded_attention(network) as stages:
        network(torch.from_numpy(inputs))
    assert len(stages) == len(passed) == 3
    for stage, (entered, left, channel) in zip(stages, passed, strict=True):
        assert stage.min() >= 1
        assert stage.max() <= 2
        torch.testing.assert_close(entered * channel * stage[:, None], left)
    # Nothing is recorded any longer.
    network(torch.from_numpy(inputs))
    assert len(stages) == 3

    maps = Explainer(card, predictor)(inputs).attention
    assert list(maps) == ["stage_1", "stage_2", "stage_3", "product"]
    # The first stage has the camera's pixels, in another order.
    in_order = maps["stage_1"][0][:, lattice_of(lst).order]
    np.testing.assert_allclose(in_order, stages[0], rtol=1e-6)
    np.testing.assert_allclose(
        maps["product"], maps["stage_1"] * maps["stage_2"] * maps["stage_3"], rtol=1e-6
    )


def test_without_attention_there_are_no_maps_of_it(make_model):
    lst = telescope()
    model = make_model(lst, attention=False, tasks=("energy", "class"))
    maps = Explainer(*predictor_of(model))(images(2, lst))
    assert maps.attention == {}
    assert list(maps.heatmaps) == ["class", "energy"]


def test_outputs_follow_the_tasks():
    assert outputs_of(["direction"]) == ["fov_lat", "fov_lon"]
    assert outputs_of(["impact", "class"]) == ["class", "impact_x", "impact_y"]
