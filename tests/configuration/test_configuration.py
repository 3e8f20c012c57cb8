"""The same file means the same in all tools, and nothing of ours does nothing."""

import json
import re

import numpy as np
import pytest
import yaml
from ctapipe.core import Component, Tool, ToolConfigurationError, traits
from ctapipe.io import read_table
from test_reconstructor import process
from traitlets.config import Config

from ctapipe_gammaphysnet.configuration.file import read_configuration
from ctapipe_gammaphysnet.configuration.sections import check_sections, merged_section
from ctapipe_gammaphysnet.reconstructor import GammaPhysNetReconstructor

FORMATS = {
    "c.yaml": "Recipe: {epochs: 3}\nAugmentation:\n",
    "c.yml": "# γ\nRecipe:\n  epochs: 3\nAugmentation: {}\n",
    "c.json": '{"version": 1, "Recipe": {"epochs": 3}, "Augmentation": {}}',
    "c.toml": "[Recipe]\nepochs = 3\n[Augmentation]\n",
    "c.py": "c.Recipe.epochs = 3\nc.Augmentation",
}


@pytest.mark.parametrize("name", FORMATS)
def test_files_of_all_formats_are_read(name, tmp_path):
    path = tmp_path / name
    path.write_text(FORMATS[name], encoding="utf-8")
    assert read_configuration(path) == {"Recipe": {"epochs": 3}, "Augmentation": {}}


def test_only_the_file_of_this_name_is_read(tmp_path):
    """traitlets reads a Python file beside a JSON file, too."""
    (tmp_path / "c.json").write_text("{}")
    (tmp_path / "c.py").write_text("c.Recipe.epochs = 3")
    assert read_configuration(tmp_path / "c.json") == {}


def test_an_empty_file_is_an_empty_configuration(tmp_path):
    (tmp_path / "c.yaml").write_text("# Recipe:\n")
    assert read_configuration(tmp_path / "c.yaml") == {}


def test_mappings_may_be_merged_twice(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "Recipe: &r {epochs: 3}\nTrain: &t {seed: 1}\nAll: {<<: *r, <<: *t}"
    )
    found = read_configuration(tmp_path / "c.yaml")
    assert found["All"] == {"epochs": 3, "seed": 1}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", "- 1", "at the top there must be 'name: value'"),
        ("c.yaml", "Recipe: 3", "in Recipe there must be 'name: value', not 3"),
        ("c.yaml", "1: 3", "1 is not a name"),
        ("c.yaml", "a: [", "is not understood"),
        ("c.yaml", "Recipe: {}\nRecipe: {}", "Recipe: given twice"),
        (
            "c.yaml",
            "Recipe: {epochs: 1, epochs: 2}",
            "epochs: given twice, again in line 1",
        ),
        ("c.json", '{"Recipe": {}, "Recipe": {}}', "Recipe: given twice"),
        ("c.json", "{", "is not understood"),
        ("c.toml", "[", "is not understood"),
        ("c.py", "1 / 0", "is not understood: division by zero"),
        ("c.txt", "", r"must end in one of \.yaml"),
    ],
)
def test_a_file_that_is_not_understood_is_named(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ToolConfigurationError, match=rf"{re.escape(name)} .*{message}"):
        read_configuration(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Recpe: {epochs: 3}", "section Recpe .* did you mean Recipe"),
        ("TrainingQualtyQuery: {}", "did you mean TrainingQualityQuery"),
        ("recipe: {epochs: 3}", "section recipe .* did you mean Recipe"),
        (
            "ShowerProcessor: {gammaphysnetreconstructor: {prefix: A}}",
            "in ShowerProcessor is not known: did you mean GammaPhysNetReconstructor",
        ),
        ("GammaPhysNetReconstructer: {}", "did you mean GammaPhysNetReconstructor"),
        (
            "ShowerProcessor: {GammaPhysNetReconstructer: {}}",
            "GammaPhysNetReconstructer in ShowerProcessor is not known: did you mean",
        ),
        (
            "ShowerProcesor: {GammaPhysNetReconstructor: {}}",
            "does nothing in ShowerProcesor: put it at the top, .*ShowerProcessor",
        ),
        ("Recipe: {epoch: 3}", "Recipe has no option epoch: did you mean epochs"),
        ("TrainGammaPhysNet: {Recipe: {epoch: 3}}", "Recipe has no option epoch"),
        ("TrainGammaPhysNet: {epochs: 3}", "did you mean Recipe.epochs"),
        (
            "ShowerProcessor: {GammaPhysNetReconstructor: {deviec: cpu}}",
            "GammaPhysNetReconstructor has no option deviec: did you mean device",
        ),
        (
            "GammaPhysNetReconstructor: {ImageQualtyQuery: {}}",
            "reads no section ImageQualtyQuery: did you mean ImageQualityQuery",
        ),
        (
            "ApplyGammaPhysNet: {ImageQualityQuery: {}}",
            "does nothing in ApplyGammaPhysNet: .* in GammaPhysNetReconstructor",
        ),
        ("GammaPhysNetReconstructor: {Recipe: {}}", "does nothing in GammaPhysNetRec"),
        ("EventSource: {Recipe: {}}", "Recipe does nothing in EventSource"),
    ],
)
def test_what_is_ours_and_does_nothing_is_an_error(text, message):
    with pytest.raises(ToolConfigurationError, match=message):
        check_sections(Config(yaml.safe_load(text)))


def test_sections_of_all_tools_and_of_ctapipe_are_right():
    """Those of others may be of plugins that are not here: they are named only."""
    text = """
    ProcessorTool: {ShowerProcessor: {GammaPhysNetReconstructor: {n_jobs: 1}}}
    ShowerProcessor:
      reconstructor_types: [GammaPhysNetReconstructor]
      GammaPhysNetReconstructor:
        StereoMeanCombiner: {weights: intensity}
        ImageQualityQuery: {quality_criteria: []}
    EventSource: {max_events: 3}
    ImageProcessor: {ImageQualityQuery: {quality_criteria: []}}
    HDF5Merger: {overwrite: true}
    DumpInstrumentTool: {format: fits}
    TrainGammaPhysNet: {Recipe: {epochs: 3}, TrainingQualityQuery: {}}
    DataWriter: {Contact: {name: I}}
    LSTEventSource: {LSTR0Corrections: {}}
    """
    assert check_sections(Config(yaml.safe_load(text))) == ["LSTEventSource"]


class Inner(Component):
    """Is inside of Outer."""

    value = traits.Int(0).tag(config=True)


class Outer(Component):
    """Has an Inner."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = Inner(parent=self)


class Host(Tool):
    """Has an Outer."""


@pytest.mark.parametrize(
    "text",
    [
        "Inner: {value: 1}",
        "Inner: {value: 1}\nOuter: {Inner: {value: 2}}",
        "Host: {Outer: {Inner: {value: 3}}}\nOuter: {Inner: {value: 2}}",
        "Host: {Inner: {value: 3}}\nOuter: {Component: {value: 2}}",
        "Tool: {Outer: {Inner: {value: 3}}}\nHost: {Outer: {Component: {value: 2}}}",
    ],
)
def test_sections_are_merged_as_traitlets_merges_them(text):
    config = Config(yaml.safe_load(text))
    expected = Outer(parent=Host(config=Config(yaml.safe_load(text)))).inner.value
    chain = [cls.section_names() for cls in (Host, Outer, Inner)]
    assert merged_section(config, *chain)["value"] == expected
    assert config == yaml.safe_load(text)


NESTED = {
    "ShowerProcessor": {
        "reconstructor_types": ["GammaPhysNetReconstructor"],
        "GammaPhysNetReconstructor": {
            "prefix": "File",
            "ImageQualityQuery": {
                "quality_criteria": [["bright", "hillas_intensity > 1e9"]]
            },
        },
    }
}


@pytest.mark.parametrize(
    "sections",
    [NESTED, {"ProcessorTool": NESTED}, NESTED["ShowerProcessor"]],
    ids=["nested", "deeper", "top"],
)
def test_the_command_line_wins_in_ctapipe_process(
    sections, toy_file, toy_model, tmp_path
):
    config = tmp_path / "c.json"
    sections = {k: v for k, v in sections.items() if k != "reconstructor_types"}
    config.write_text(json.dumps(sections))
    output = process(
        toy_file,
        toy_model,
        tmp_path / "out.dl2.h5",
        f"--config={config}",
        "--GammaPhysNetReconstructor.prefix=Mine",
    )
    table = read_table(output, "/dl2/event/subarray/energy/MineEnergy")
    # What the command line says nothing of is as in the file.
    assert not table["MineEnergy_is_valid"].any()


def test_a_file_counts_where_the_command_line_is_silent(toy_file, toy_model, tmp_path):
    config = tmp_path / "c.json"
    config.write_text(json.dumps(NESTED))
    output = process(toy_file, toy_model, tmp_path / "out.h5", f"--config={config}")
    table = read_table(output, "/dl2/event/subarray/energy/FileEnergy")
    assert not table["FileEnergy_is_valid"].any()


def test_ctapipe_process_does_not_ignore_misspelt_sections(
    toy_file, toy_model, tmp_path
):
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"ImageQualtyQuery": {"quality_criteria": []}}))
    with pytest.raises(ToolConfigurationError, match="did you mean ImageQualityQuery"):
        process(toy_file, toy_model, tmp_path / "out.h5", f"--config={config}")


def test_a_component_without_a_tool_has_its_configuration(toy_subarray, toy_model):
    section = {"load_path": str(toy_model), "prefix": "Own", "n_jobs": 1}
    section["ImageQualityQuery"] = {"quality_criteria": [["a", "hillas_length > 3"]]}
    reconstructor = GammaPhysNetReconstructor(
        toy_subarray, config=Config({"GammaPhysNetReconstructor": section})
    )
    assert reconstructor.prefix == "Own"
    assert np.shape(reconstructor.quality_query.quality_criteria) == (1, 2)
