"""Showers that a network has seen in its training."""

import numpy as np
import pytest

from ctapipe_gammaphysnet.evaluation.events import EvaluationError
from ctapipe_gammaphysnet.evaluation.networks import check_showers, seeds_of
from ctapipe_gammaphysnet.events.showers import describe_showers
from ctapipe_gammaphysnet.model.card import ParentCard


class Card:
    """What a card says of a training."""

    parent = None

    def __init__(self, training, seeds=()):
        self.training = training
        self.members = [type("Member", (), {"seed": seed}) for seed in seeds]


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(0).integers(0, 2**64, 200_000, dtype=np.uint64)


@pytest.fixture(scope="module")
def card(numbers):
    return Card({"seen in training": describe_showers(numbers[:100_000])})


def test_showers_of_the_training_are_recognised(card, numbers):
    assert check_showers(card, np.repeat(numbers[:50], 4)) == 50
    # Few among many.
    assert check_showers(card, numbers[99_900:110_000]) >= 100


def test_showers_that_look_like_them_by_chance_are_no_objection(card, numbers):
    foreign = numbers[100_000:]
    description = card.training["seen in training"]
    upper = foreign >> np.uint64(32)
    smallest = numbers[:100_000] >> np.uint64(32)
    # Of so many showers some do look like ones of the training.
    assert np.isin(upper, smallest).sum() > 0
    assert description["showers"] == 100_000
    assert check_showers(card, foreign) == 0


def test_a_card_may_not_say(numbers):
    assert check_showers(Card({}), numbers[:5]) is None


def test_showers_of_the_networks_before_count(card, numbers):
    """A training may have begun with their weights."""
    seen = card.training["seen in training"]

    class Child(Card):
        def __init__(self, training, knows_all_showers=True, showers=seen):
            super().__init__(training)
            self.parent = ParentCard(
                type="LST",
                sha256="0" * 64,
                created="",
                note="",
                seeds=(0,),
                domain=None,
                showers=showers
                and {
                    "showers": showers["showers"],
                    "smallest_numbers": showers["smallest numbers"],
                },
                knows_all_showers=knows_all_showers,
                before=(),
            )

    own = {"seen in training": describe_showers(numbers[150_000:150_100])}
    foreign = numbers[160_000:160_100]
    for training in (own, {}):
        for knows_all in (True, False):
            child = Child(training, knows_all)
            assert check_showers(child, numbers[:50]) == 50
            nothing = 0 if knows_all and training else None
            assert check_showers(child, foreign) == nothing
    for child in (Child(own), Child(own, knows_all_showers=False, showers=None)):
        assert check_showers(child, numbers[150_000:150_040]) == 40


def test_members_of_all_types_have_the_same_seeds():
    assert seeds_of([Card({}, [1, 2]), Card({}, [1, 2])]) == (1, 2)
    assert seeds_of([Card({}, [1])]) == ()
    with pytest.raises(EvaluationError, match="different seeds"):
        seeds_of([Card({}, [1, 2]), Card({}, [1, 3])])
