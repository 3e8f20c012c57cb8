"""The registry of properties: what is imported, and that nothing lists them again."""

import subprocess
import sys

import pytest

from ctapipe_gammaphysnet.network import NetworkConfig
from ctapipe_gammaphysnet.tasks import TASKS, class_first, default_tasks
from ctapipe_gammaphysnet.tasks.task import Task


def test_import_needs_neither_torch_nor_ctapipe_nor_astropy():
    code = (
        "import sys, ctapipe_gammaphysnet.tasks; "
        "sys.exit(' '.join({'torch', 'ctapipe', 'astropy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.stderr.strip()


def test_a_network_predicts_what_the_paper_does():
    assert default_tasks() == ("energy", "direction", "impact", "class")
    assert NetworkConfig().tasks == default_tasks()


def test_figures_begin_with_the_class():
    assert list(class_first())[:4] == ["class", "energy", "direction", "impact"]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_known_by_its_name_and_says_all_that_is_asked(name):
    task = TASKS[name]
    assert task.name == name
    assert task.meaning
    assert task.path in ("global", "geometry", "local")
    assert task.n_outputs(("gamma", "proton")) >= 1
    assert {output.task for output in task.outputs.values()} == {name}
    columns = sorted(output.column for output in task.outputs.values())
    assert columns == list(range(len(columns)))
    assert {metric.prediction for metric in task.metrics.values()} == {task.compared}
    assert task.validation_metrics
    assert task.columns
    assert callable(task.movement.compute)


def test_names_are_unique():
    for attribute in ("colour", "compared", "error"):
        values = [getattr(task, attribute) for task in TASKS.values()]
        assert len(set(values)) == len(values), attribute
    for attribute in ("validation_metrics", "columns", "metrics", "outputs"):
        names = [n for task in TASKS.values() for n in getattr(task, attribute)]
        assert len(set(names)) == len(names), attribute


def test_a_task_that_lacks_something_cannot_be_made():
    class Unfinished(Task):
        name = "unfinished"

    with pytest.raises(TypeError, match="abstract methods.*compare.*dl2"):
        Unfinished()
