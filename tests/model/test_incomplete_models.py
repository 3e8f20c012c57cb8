"""Whoever uses a model whose training was interrupted is told."""

import logging

import pytest
import toy_sample
from ctapipe.core import run_tool

from ctapipe_gammaphysnet.model import file as model_file
from ctapipe_gammaphysnet.model.card_text import incomplete_members
from ctapipe_gammaphysnet.reconstructor import GammaPhysNetReconstructor
from ctapipe_gammaphysnet.tools.evaluate import EvaluateGammaPhysNet
from ctapipe_gammaphysnet.tools.explain import ExplainGammaPhysNet
from ctapipe_gammaphysnet.tools.show import main as show_model

MESSAGE = "its training was interrupted, these members are not complete: "


@pytest.fixture(scope="module")
def dl1(tmp_path_factory):
    """A few gammas in two telescopes."""
    path = tmp_path_factory.mktemp("dl1") / "gamma.dl1.h5"
    array = toy_sample.small_array(3, positions=toy_sample.LST_POSITIONS[:2])
    return toy_sample.write_toy_file(path, "gamma", 8, array=array)


@pytest.fixture(scope="module")
def telescopes():
    """Their type."""
    array = toy_sample.small_array(3, positions=toy_sample.LST_POSITIONS[:2])
    return toy_sample.ToyCard(array=array).subarray()


def with_training(model, *of_members):
    """A model whose members' trainings are described so."""
    (network,) = model.card.networks
    members = tuple(
        member.model_copy(update={"training": training})
        for member, training in zip(network.members, of_members, strict=True)
    )
    network = network.model_copy(update={"members": members})
    card = model.card.model_copy(update={"networks": (network,)})
    return model_file.Model(card, model.weights)


@pytest.fixture(scope="module", params=[False, True], ids=["complete", "incomplete"])
def model(request, make_model, telescopes, tmp_path_factory):
    """A model of three members, and the seed that is not complete, or none."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    made = make_model(telescopes.tel[1], n_members=3, seed=4)
    # Of other programs' models nothing may be known.
    trainings = {"complete": True}, {"complete": not request.param}, {}
    model_file.write_model(path, with_training(made, *trainings))
    return path, f"{MESSAGE}LST_LST_ToyCam, seed 5." if request.param else None


def assert_said(text, model):
    path, message = model
    if message is None:
        assert MESSAGE not in text
    else:
        assert f"{path}: {message}" in text


def test_a_card_tells(model):
    path, message = model
    text = incomplete_members(model_file.read_card(path))
    assert text.startswith(message) if message else text == ""


def test_who_looks_at_a_model_file_is_told(model, capsys):
    assert show_model([str(model[0])]) == 0
    assert_said(capsys.readouterr().err, model)


def test_the_reconstructor_says_it(model, telescopes):
    """In ctapipe-process, and in the bulk tool."""
    records = []

    class Handler(logging.Handler):
        """Remembers what is said."""

        def emit(self, record):
            records.append((record.levelname, record.getMessage()))

    reconstructor_log = logging.getLogger("ctapipe_gammaphysnet.reconstructor")
    handler = Handler()
    reconstructor_log.addHandler(handler)
    try:
        GammaPhysNetReconstructor(telescopes, load_path=model[0])
    finally:
        reconstructor_log.removeHandler(handler)
    assert_said("\n".join(message for _, message in records), model)
    assert {level for level, _ in records} <= {"WARNING"}


@pytest.mark.parametrize(
    ("tool", "option"),
    [
        (EvaluateGammaPhysNet, "--signal"),
        (ExplainGammaPhysNet, "--input"),
    ],
)
def test_tools_say_it(tool, option, model, dl1, tmp_path, monkeypatch, capsys):
    for step in ("start", "finish"):
        monkeypatch.setattr(tool, step, lambda tool: None)
    argv = [
        f"{option}={dl1}",
        f"--model={model[0]}",
        f"--output-dir={tmp_path / 'out'}",
        f"--provenance-log={tmp_path / 'log'}",
    ]
    run_tool(tool(), argv=argv, cwd=tmp_path, raises=True)
    assert_said(capsys.readouterr().err, model)
