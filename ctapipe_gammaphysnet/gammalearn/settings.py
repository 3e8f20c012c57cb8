"""Read the settings of a gammalearn training: what its checkpoint does not hold.

Either the ``settings.json`` that gammalearn writes beside its checkpoints, or the
settings in Python. These are parsed, never run: expressions other than constants,
lists and dictionaries stay text.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

from ..model.strict_json import StrictJsonError, strict_json
from .errors import ImportedModelError
from .filters import describe_filters

__all__ = ["Settings", "read_settings"]

MAX_BYTES = 2**20
#: Values in one variable, far above those of any settings.
MAX_VALUES = 10_000
#: gammalearn cuts the text of the backbone after 150 characters.
MAX_BACKBONE = 10_000
#: Variables of settings in Python that are read.
_NETWORK, _DATA = "net_parameters_dic", "dataset_parameters"
_MODULES = ("data_module_train", "data_module_test", "test_dataset_parameters")
_FILTERS = ("image_filter", "event_filter")
_READ = (_NETWORK, _DATA, *_MODULES, *_FILTERS, "particle_dict", "targets")
#: Parts of a module of data, if its training adapts from one to the other.
_DOMAINS = ("source", "target")
#: Constants of gammalearn.
_PARTICLE_IDS = {"GAMMA_ID": 0, "ELECTRON_ID": 1, "PROTON_ID": 101}
_PARTICLES = {
    0: "gamma",
    1: "electron",
    101: "proton",
    402: "helium",
    1407: "nitrogen",
    2814: "silicon",
    5626: "iron",
}
#: Options that do not change a trained network, or that its weights show.
_HARMLESS = {
    "backbone": {
        *("num_layers", "num_channels", "block_features", "attention_layer"),
        *("init", "initialization", "freeze"),
    },
    "network": {"fc_width", "last_bias_init", "targets", "backbone", "freeze"},
    "data": {
        *("camera_type", "particle_dict", "targets", "domain_dict", "subarray"),
        *("module", "paths", *_FILTERS),
    },
}
_TASKS = {"energy", "impact", "direction", "class"}


class Settings(NamedTuple):
    """What the settings tell about a network.

    Attributes
    ----------
    classes : tuple of str
        Its classes, in the order of its outputs.
    record : dict of str to object
        The settings that go into the model card.
    doubts : list of str
        What the settings leave open.
    """

    classes: tuple[str, ...]
    record: dict
    doubts: list[str]


def read_settings(path: str | Path) -> Settings:
    """Read and check the settings of a training.

    Parameters
    ----------
    path : str or pathlib.Path
        ``settings.json`` of gammalearn, or its settings in Python (``.py``).

    Returns
    -------
    Settings
        The classes, and what the model card records.

    Raises
    ------
    ImportedModelError
        If the settings cannot be read, or belong to a network or an input that this
        package does not have.
    """
    path = Path(path)
    try:
        text = _text(path)
        found = _from_python(text) if path.suffix == ".py" else _from_json(text)
        doubts = _check_network(found["network"]) + _left_out(found["filters"])
        _check_data(found["data"])
        classes = _classes(found["data"][-1].get("particle_dict"))
    except ImportedModelError as error:
        raise ImportedModelError(f"{path}: {error}") from None
    return Settings(classes, {"program": "gammalearn", **found["record"]}, doubts)


def _left_out(filters):
    """What is known of images and events that the training left out."""
    if filters is None:
        return [
            "they do not say whether the training left out images or events by "
            "filters. The settings in Python show it"
        ]
    return describe_filters(filters)


def _text(path):
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImportedModelError("it is too large for settings")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImportedModelError(f"it cannot be read: {reason}") from None


def _from_json(text):
    """Network, data and record of ``settings.json``, whose network is cut text."""
    try:
        # Filters have infinite limits.
        values = strict_json(text, constants=str)
    except (StrictJsonError, RecursionError) as error:
        raise ImportedModelError(f"it is not JSON: {error}") from None
    network = _dict(_dict(values).get("network"))
    if len(network) != 1:
        raise ImportedModelError("it has no network")
    ((model, parameters),) = network.items()
    parameters = dict(_dict(parameters))
    parameters["backbone"] = _cut_backbone(str(parameters.get("backbone")))
    record = {
        name: values[name]
        for name in ("gammalearn", "dataset_parameters", "losses", "num_epochs")
        if name in values
    }
    filters = {
        name.strip(): value
        for name, value in values.items()
        if name.startswith(("image filters", "event filters"))
    }
    return {
        "network": {"model": model, "parameters": parameters},
        "data": [_dict(values.get(_DATA))],
        "filters": filters or None,
        "record": record | filters,
    }


def _cut_backbone(text):
    """The backbone, from a text that gammalearn cut somewhere."""
    if len(text) > MAX_BACKBONE:
        raise ImportedModelError(f"its backbone has {len(text)} characters")
    model = re.match(r"\{model: ([\w.]+)", text)
    parameters = {
        name: value
        for name, value in re.findall(
            r"(non_linearity|normalization): (\([\w.]+, \{.*?\}\)|[\w.]+(?=[,}]))", text
        )
    }
    if text.count("{") != text.count("}"):
        parameters["..."] = text[-40:]
    return {"model": model and model[1], "parameters": parameters}


def _dict(value):
    if not isinstance(value, dict):
        raise ImportedModelError("it is not the settings of a gammalearn training")
    return value


def _from_python(text):
    """Network, data and record of settings in Python."""
    try:
        variables = _assigned(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ImportedModelError(f"it is not Python: {error}") from None
    missing = [name for name in (_NETWORK, _DATA) if name not in variables]
    if missing:
        raise ImportedModelError(f"it does not define {missing[0]}")
    return {
        "network": _dict(variables[_NETWORK]),
        "data": [
            part
            for name in (*_MODULES, _DATA)
            for part in _domains(variables.get(name, {})).values()
        ],
        "filters": _filters(variables),
        "record": {
            name: _plain(variables[name])
            for name in (*_MODULES[:1], *_FILTERS, _DATA)
            if name in variables
        },
    }


def _domains(module):
    """A module of data without its domains, and each of them, by name."""
    module = dict(_dict(module))
    domains = {name: _dict(module.pop(name)) for name in _DOMAINS if name in module}
    return domains | {"": module}


def _filters(variables):
    """Filters of the training, None if nothing shows its data."""
    found = {name: variables[name] for name in _FILTERS if name in variables}
    if _MODULES[0] not in variables:
        return found or None
    for domain, module in _domains(variables[_MODULES[0]]).items():
        found |= {
            f"{name} {domain}".strip(): module[name]
            for name in _FILTERS
            if name in module
        }
    return found


def _assigned(tree):
    """Variables that are assigned once, at the top."""
    variables = dict(_PARTICLE_IDS)
    sizes = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and len(node.targets) == 1:
            if target.id in _READ and target.id in variables:
                raise ImportedModelError(f"it assigns {target.id} twice")
            variables[target.id] = _value(node.value, variables)
            sizes[target.id] = _size(node, sizes)
        elif changed := _names(node) & {*_READ, *_containers(variables)}:
            raise ImportedModelError(
                f"line {node.lineno} may change {min(changed)}: it cannot be followed "
                "without running it"
            )
    return variables


def _size(node, sizes):
    """Number of values, where a variable counts as those it stands for."""
    size = sum(
        sizes.get(part.id, 1) if isinstance(part, ast.Name) else 1
        for part in ast.walk(node.value)
    )
    if size > MAX_VALUES:
        raise ImportedModelError(
            f"line {node.lineno} assigns more than {MAX_VALUES} values"
        )
    return size


def _containers(variables):
    return {name for name, value in variables.items() if isinstance(value, dict | list)}


def _names(node):
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _value(node, variables):
    """A constant, list or dictionary; the text of anything else."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name() if node.id in variables:
            return variables[node.id]
        case ast.Attribute() if node.attr in _PARTICLE_IDS:
            return _PARTICLE_IDS[node.attr]
        case ast.List():
            return [_value(part, variables) for part in node.elts]
        case ast.Dict():
            return _dictionary(node, variables)
        case ast.Call(args=[argument], keywords=[]) if _is_dict(node.func):
            return _value(argument, variables)
    return ast.unparse(node)


def _is_dict(function):
    return ast.unparse(function).split(".")[-1] in ("OrderedDict", "dict")


def _dictionary(node, variables):
    values = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            raise ImportedModelError(
                f"line {node.lineno} merges dictionaries: write them out"
            )
        key = _value(key, variables)
        values[key if isinstance(key, int) else str(key)] = _value(value, variables)
    return values


def _plain(value):
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def _check_network(network):
    """Refuse other networks; return what is left open."""
    _check_name("network", network.get("model"), "GammaPhysNet")
    parameters = _dict(network.get("parameters"))
    backbone = _dict(parameters.get("backbone"))
    _check_name("backbone", backbone.get("model"), "ResNetAttentionIndexed")
    inner = dict(_dict(backbone.get("parameters")))
    cut = inner.pop("...", None)
    _check_layers("network", parameters)
    _check_layers("backbone", inner)
    if cut is not None and "non_linearity" not in inner:
        return [
            f"they are cut after {cut!r}: the activation of the backbone is taken to "
            "be ReLU, as that of the heads. The settings in Python show it"
        ]
    return []


def _check_name(what, found, wanted):
    if str(found).split(".")[-1] != wanted:
        raise ImportedModelError(
            f"the {what} is {found}; only {wanted} can be imported, with indexed "
            "convolutions"
        )


def _check_layers(what, parameters):
    """Check activation and normalisation, and that there is nothing unknown."""
    wanted = {"non_linearity": {"ReLU"}, "normalization": {"BatchNorm1d"}}
    for name, value in parameters.items():
        if name in wanted:
            layer = re.fullmatch(r"\(?([\w.]+)(?:, \{\})?\)?", str(value))
            if layer is None or layer[1].split(".")[-1] not in wanted[name]:
                raise ImportedModelError(
                    f"the {what} has {name} {value}; only "
                    f"{min(wanted[name])} without options can be imported"
                )
        elif name == "batch_norm" and value is True:
            continue
        elif name not in _HARMLESS[what]:
            raise ImportedModelError(f"the option {name} of the {what} is unknown")


def _check_data(data):
    """Refuse images and targets that this package cannot prepare.

    The last dictionary is that of the data set, which must say everything.
    """
    wanted = {
        "group_by": "image",
        "use_time": True,
        "transform": None,
        "target_transform": None,
        "mask_method": None,
    }
    for name, value in (item for part in data for item in part.items()):
        if name in wanted:
            if value != wanted[name]:
                raise ImportedModelError(
                    f"{name} is {value}; only {wanted[name]} can be imported"
                )
        elif name not in _HARMLESS["data"]:
            raise ImportedModelError(f"the option {name} of the data is unknown")
    for name in ("group_by", "use_time"):
        if name not in data[-1]:
            raise ImportedModelError(f"it does not say {name}")
    targets = data[-1].get("targets")
    unknown = {*targets} - _TASKS if isinstance(targets, list) else set()
    if unknown:
        raise ImportedModelError(f"the target {min(unknown)} is unknown")


def _classes(particles):
    """Names of the classes, in the order of the outputs."""
    names = {}
    try:
        for particle, number in _dict(particles).items():
            name = _PARTICLES.get(int(particle), f"particle {int(particle)}")
            names.setdefault(int(number), []).append(name)
    except (TypeError, ValueError):
        raise ImportedModelError(
            f"particle_dict is {particles}, not numbers of particles and classes"
        ) from None
    classes = tuple(" or ".join(names[number]) for number in sorted(names))
    if sorted(names) != list(range(len(names))) or "gamma" not in classes:
        raise ImportedModelError(
            f"particle_dict is {particles}: classes must count from 0, and gammas "
            "(particle 0) need a class of their own"
        )
    return classes
