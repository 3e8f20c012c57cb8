"""Which images are explained."""

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

from ctapipe_gammaphysnet.explanation.choice import choose, which_are, why_unranked

ERRORS = [0.3, np.nan, 0.1, 0.9, 0.2, np.nan, 0.5]


def test_the_best_and_the_worst_come_first_and_no_image_twice():
    images = Table({"error": ERRORS})
    chosen = choose(images, 2, 2, 100, seed=1)
    assert chosen["best"].tolist() == [2, 4]
    assert chosen["worst"].tolist() == [3, 6]
    assert chosen["random"].tolist() == [0, 1, 5]


def test_few_known_errors_are_the_best():
    chosen = choose(Table({"error": ERRORS}), 4, 4, 0, seed=1)
    assert chosen["best"].tolist() == [2, 4, 0, 6]
    assert chosen["worst"].tolist() == [3]
    assert chosen["random"].tolist() == []


def test_what_is_drawn_is_that_of_the_seed():
    images = Table({"error": np.full(1000, np.nan)})
    one, same, other = (
        choose(images, 1, 1, 5, seed)["random"].tolist() for seed in (1, 1, 2)
    )
    assert one == same != other
    assert one == sorted(set(one))
    assert len(one) == 5


@pytest.mark.parametrize(
    ("label", "tasks", "rank_by", "reason"),
    [
        (-1, ["energy"], "separation", "there are no gammas whose truth is known"),
        (1, ["energy"], "energy", "there are no gammas whose truth is known"),
        (
            0,
            ["energy", "impact"],
            "separation",
            "the model does not predict the direction: --rank-by energy or impact",
        ),
        (
            0,
            ["class", "direction", "impact"],
            "impact",
            "without the pointing no error of the impact is known: --rank-by class",
        ),
        (
            0,
            ["direction"],
            "separation",
            "without the pointing no error of the direction is known",
        ),
    ],
)
def test_that_nothing_is_ranked_has_its_reason(label, tasks, rank_by, reason):
    def explainer(tasks):
        network = SimpleNamespace(tasks=tasks)
        return SimpleNamespace(card=SimpleNamespace(network=network))

    # Of telescopes without an image nothing counts.
    explainers = {"LST": explainer(tasks)}
    explainers["SST"] = explainer(["energy", "direction", "class"])
    images = Table({"label": [label], "type": ["LST"]})
    assert why_unranked(images, explainers, rank_by) == reason


def test_an_image_is_found_by_all_its_numbers():
    keys = {"file": [0, 1], "obs_id": [1, 1], "event_id": [5, 6], "tel_id": [2, 2]}
    is_wanted = which_are(Table(keys))
    others = Table(keys)
    for name in keys:
        others[name] = others[name] + 10
        assert not is_wanted(others).any()
        others[name] = others[name] - 10
    # The numbers of one, in the file of the other.
    others["file"] = others["file"][::-1].copy()
    assert not is_wanted(others).any()
    np.testing.assert_array_equal(is_wanted(Table(keys)[::-1]), [True, True])
