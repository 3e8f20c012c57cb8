"""Members that are added to a model file."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from ctapipe_gammaphysnet.files.locks import locked
from ctapipe_gammaphysnet.model.card import DomainCard, InputCard, is_complete
from ctapipe_gammaphysnet.model.errors import ModelFileError
from ctapipe_gammaphysnet.model.file import read_model, write_model
from ctapipe_gammaphysnet.training.members import add_members


@pytest.fixture(scope="module")
def toycam(toy_subarray):
    """One of the two telescope types."""
    return toy_subarray.tel[1]


@pytest.fixture
def path(make_model, toycam, tmp_path):
    """A model file with the seeds 0 and 1."""
    path = tmp_path / "model.safetensors"
    write_model(path, make_model(toycam, n_members=2))
    return path


def change(model, network=0, member=None, **update):
    """Change a network's card, or a member's."""
    networks = list(model.card.networks)
    if member is not None:
        members = list(networks[network].members)
        members[member] = members[member].model_copy(update=update)
        update = {"members": tuple(members)}
    networks[network] = networks[network].model_copy(update=update)
    card = model.card.model_copy(update={"networks": tuple(networks)})
    return replace(model, card=card)


def seeds_of(model, network=0):
    return [member.seed for member in model.card.networks[network].members]


def complete_seeds(model):
    return [m.seed for m in model.card.networks[0].members if is_complete(m)]


def assert_weights(model, expected):
    """Compare a network's members with (model, member) in order."""
    assert len(model.weights[0]) == len(expected)
    for weights, (source, member) in zip(model.weights[0], expected, strict=True):
        assert weights.keys() == source.weights[0][member].keys()
        for name, values in weights.items():
            np.testing.assert_array_equal(values, source.weights[0][member][name])


def domain(pedestal):
    quantiles = (pedestal, pedestal, pedestal)
    return DomainCard(
        pedestal_pe=quantiles,
        noise_pe=(1.0, 1.0, 1.0),
        missing_pixels=(0.0, 0.0, 0.0),
        peak_time_spread_ns=(9.0, 9.0, 9.0),
        intensity_pe=(50.0, 100.0, 900.0),
        energy_tev=(0.1, 1.0),
        pointings_deg=((70.0, 180.0),),
    )


def test_members_of_other_conditions_are_refused(path, make_model, toycam):
    new = make_model(toycam, seed=2)
    write_model(path, change(read_model(path), domain=domain(1.5)), overwrite=True)
    with pytest.raises(ModelFileError, match="'domain' of the model card"):
        add_members(path, change(new, domain=domain(0.0)))
    added = add_members(path, change(new, domain=domain(1.5)))
    assert seeds_of(added) == [0, 1, 2]


def test_new_members_come_after_those_in_the_file(path, make_model, toycam):
    old, new = read_model(path), make_model(toycam, n_members=2, seed=2)
    new = replace(new, card=new.card.model_copy(update={"note": "Four."}))
    added = add_members(path, new)
    assert seeds_of(added) == [0, 1, 2, 3]
    assert added.card.note == "Four."
    without = replace(new, card=new.card.model_copy(update={"note": ""}))
    assert add_members(path, without).card.note == old.card.note != ""
    assert_weights(added, [(old, 0), (old, 1), (new, 0), (new, 1)])
    # Nothing is written yet; then all is.
    assert seeds_of(read_model(path)) == [0, 1]
    write_model(path, added, overwrite=True)
    assert_weights(read_model(path), [(old, 0), (old, 1), (new, 0), (new, 1)])


def test_each_telescope_type_gets_its_own(make_model, toy_subarray, tmp_path):
    """Whatever their order in the file."""
    path = tmp_path / "model.safetensors"
    types = list(toy_subarray.telescope_types)
    old = make_model(types)
    new = make_model(types[::-1], seed=1)
    write_model(path, old)
    write_model(path, add_members(path, new), overwrite=True)
    model = read_model(path)
    for card, weights in zip(model.card.networks, model.weights, strict=True):
        assert [member.seed for member in card.members] == [0, 1]
        for member, source in enumerate((old, new)):
            (number,) = [
                n
                for n, network in enumerate(source.card.networks)
                if network.telescope == card.telescope
            ]
            np.testing.assert_equal(weights[member], source.weights[number][0])


def test_networks_for_other_telescopes_are_added(path, make_model, toy_subarray):
    """Members of one type, another recipe for the other type."""
    old = read_model(path)
    toycam, othercam = toy_subarray.tel[1], toy_subarray.tel[3]
    write_model(
        path, add_members(path, make_model(toycam, n_members=1, seed=2)), overwrite=True
    )
    other = make_model(othercam, seed=1, hidden=4)
    added = add_members(path, other)
    assert [card.telescope.type for card in added.card.networks] == [
        str(toycam),
        str(othercam),
    ]
    assert [seeds_of(added, network) for network in (0, 1)] == [[0, 1, 2], [1]]
    assert added.card.networks[1] == other.card.networks[0]
    np.testing.assert_equal(added.weights[1], other.weights[0])
    np.testing.assert_equal(added.weights[0][:2], old.weights[0])


def test_what_is_in_the_file_is_seen_beside_a_new_type(path, make_model, toy_subarray):
    """Of several types each is compared with its own."""
    new = make_model(list(toy_subarray.telescope_types), seed=1)
    with pytest.raises(ModelFileError, match=r"of the seeds \[1\] for LST_LST_ToyCam"):
        add_members(path, new)


def test_another_camera_of_the_same_name_is_an_error(path, make_model, toycam):
    new = make_model(toycam, seed=2)
    telescope = new.card.networks[0].telescope
    optics = telescope.optics.model_copy(update={"mirror_area_m2": 1.0})
    new = change(new, telescope=telescope.model_copy(update={"optics": optics}))
    with pytest.raises(ValueError, match="differ from the new ones in 'telescope'"):
        add_members(path, new)


def test_other_networks_are_an_error(path, make_model, toycam):
    with pytest.raises(ValueError, match="differ from the new ones in 'network'"):
        add_members(path, make_model(toycam, seed=2, hidden=4))


@pytest.mark.parametrize(
    ("part", "value", "difference"),
    [
        ("input", InputCard(charge="arcsinh"), "charge was linear, is arcsinh"),
        (
            "training",
            {"recipe": {"epochs": 3}},
            "recipe was None, is {'epochs': 3}",
        ),
    ],
)
def test_another_training_is_an_error(
    path, make_model, toycam, part, value, difference
):
    new = change(make_model(toycam, seed=2), **{part: value})
    message = (
        f"model.safetensors: .* differ from the new ones in '{part}' of the model "
        rf"card \({difference}\):"
    )
    with pytest.raises(ValueError, match=message):
        add_members(path, new)


def test_the_same_training_is_recognised_in_the_file(path, make_model, toycam):
    """Its card is JSON there: no number may have changed."""
    training = {
        "range": [0.1 + 0.2, float(np.float32(1) / 3)],
        "counts": {"a": 2**40, "b": None},
        "files": ["a", "b"],
    }
    old = change(make_model(toycam), training=training)
    write_model(path, old, overwrite=True)
    new = change(make_model(toycam, seed=1), training=training)
    assert seeds_of(add_members(path, new)) == [0, 1]


def test_a_seed_that_is_there_is_an_error(path, make_model, toycam):
    with pytest.raises(ValueError, match=r"members of the seeds \[1\] for LST_LST_Toy"):
        add_members(path, make_model(toycam, n_members=2, seed=1))


def test_an_interrupted_member_gives_way(path, make_model, toycam):
    old = make_model(toycam, n_members=2)
    old = change(old, member=0, training={"complete": False, "epochs": 1})
    write_model(path, old, overwrite=True)
    assert complete_seeds(read_model(path)) == [1]
    again = make_model(toycam, seed=0, hidden=8)
    again.weights[0][0]["heads.class.bias"][:] = 7
    again = change(again, member=0, training={"complete": True})
    added = add_members(path, again)
    assert seeds_of(added) == [1, 0]
    assert_weights(added, [(old, 1), (again, 0)])
    assert complete_seeds(added) == [1, 0]
    # One of another seed leaves it alone.
    other = make_model(toycam, seed=5)
    assert seeds_of(add_members(path, other)) == [0, 1, 5]


def test_members_of_a_resumed_training_give_way(path, make_model, toycam):
    """They were written, but the training's other members were not yet ready."""
    again = make_model(toycam, n_members=2, seed=1)
    with pytest.raises(ValueError, match=r"members of the seeds \[1\]"):
        add_members(path, again, resumed={2})
    assert seeds_of(add_members(path, again, resumed={1, 2})) == [0, 1, 2]


def test_members_can_be_added_at_the_same_time(path, make_model, toycam):
    """None is lost, whoever comes first."""
    errors = []

    def add(seed):
        try:
            new = make_model(toycam, seed=seed)
            start.wait()
            with locked(path):
                write_model(path, add_members(path, new), overwrite=True)
        except Exception as error:
            errors.append(error)

    start = threading.Barrier(4)
    threads = [threading.Thread(target=add, args=(seed,)) for seed in (2, 3, 4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(seeds_of(read_model(path))) == [0, 1, 2, 3, 4, 5]
