"""The configuration of training and input."""

import pytest
from traitlets import TraitError
from traitlets.config import Config

from ctapipe_gammaphysnet.model_card import InputCard
from ctapipe_gammaphysnet.training.recipe import InputTransformation, Recipe


def test_by_default_the_input_is_the_papers():
    assert InputTransformation().card() == InputCard()


def test_all_of_the_input_can_be_configured():
    """Nothing of the configuration is lost on the way to the model file."""
    settings = {
        "image": "cleaned",
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
    ],
)
def test_settings_without_meaning_are_refused(setting):
    with pytest.raises(TraitError):
        Recipe(**setting)
