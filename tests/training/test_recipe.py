"""The configuration of training and input."""

import pytest
from traitlets import TraitError
from traitlets.config import Config

from ctapipe_gammaphysnet.model.card import InputCard
from ctapipe_gammaphysnet.training.recipe import InputTransformation, Recipe


def test_by_default_the_input_is_the_papers():
    assert InputTransformation().card() == InputCard()


def test_all_of_the_input_can_be_configured():
    """Nothing of the configuration is lost on the way to the model file."""
    settings = {
        "image": "cleaned",
        "charge_reference": "background",
        "charge_unit": "noise",
        "background_rings": 3,
        "charge": "arcsinh",
        "charge_scale": 5.0,
        "peak_time_reference": "image",
        "peak_time_scale": 10.0,
        "peak_time_pixels": "cleaned",
        "peak_time_rings": 2,
    }
    config = Config({"InputTransformation": settings})
    transformation = InputTransformation(config=config)
    assert set(settings) == set(transformation.trait_names(config=True))
    card = transformation.card().model_dump()
    assert {name: card[name] for name in settings} == settings


def test_the_default_recipe_is_the_papers():
    recipe = Recipe()
    assert (recipe.epochs, recipe.learning_rate, recipe.weight_decay) == (
        25,
        1e-3,
        1e-4,
    )
    assert (recipe.schedule, recipe.decay_every) == ("step", 10)
    assert recipe.task_weights == {}
    assert recipe.signal_fraction is None
    assert recipe.energy_weight_slope == 0


@pytest.mark.parametrize(
    "setting",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"signal_fraction": 1.1},
        {"schedule": "linear"},
        {"task_weights": {"energy": -1.0}},
        {"patience": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"balance_learning_rate": float("nan")},
        {"weight_decay": float("inf")},
        {"gradient_clip": 0.0},
        {"signal_fraction": float("nan")},
        {"energy_weight_slope": float("nan")},
        {"task_weights": {"energy": float("nan")}},
        {"task_weights": {"energy": 0.0}},
    ],
)
def test_settings_without_meaning_are_refused(setting):
    (name,) = setting
    with pytest.raises(TraitError, match=name):
        Recipe(**setting)


@pytest.mark.parametrize("name", ["charge_scale", "peak_time_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_are_positive_numbers(name, value):
    with pytest.raises(TraitError, match=name):
        InputTransformation(**{name: value})


def test_a_number_that_need_not_be_given_is_not_checked():
    assert Recipe(gradient_clip=None, signal_fraction=None).gradient_clip is None
