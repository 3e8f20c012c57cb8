"""Read configuration files, and refuse keys that appear twice."""

import json
import tomllib

import yaml
from ctapipe.core import ToolConfigurationError
from traitlets.config import Config, PyFileConfigLoader

from .strict_yaml import UniqueKeyLoader

__all__ = ["read_configuration"]


def read_configuration(path):
    """Read a configuration file.

    Parameters
    ----------
    path : pathlib.Path
        YAML, JSON, TOML or Python.

    Returns
    -------
    traitlets.config.Config
        Its sections.

    Raises
    ------
    ToolConfigurationError
        If it cannot be read.
    """
    readers = {
        ".yaml": _read_yaml,
        ".yml": _read_yaml,
        ".json": _read_json,
        ".toml": lambda path: tomllib.loads(path.read_text(encoding="utf-8")),
        ".py": lambda path: PyFileConfigLoader(str(path)).load_config(),
    }
    reader = readers.get(path.suffix)
    if reader is None:
        raise ToolConfigurationError(
            f"the configuration file {path} must end in one of {', '.join(readers)}"
        )
    try:
        return _sections(reader(path))
    except ToolConfigurationError:
        raise
    except OSError as error:
        raise ToolConfigurationError(
            f"the configuration file {path} cannot be read: {error.strerror}"
        ) from error
    # A Python file may raise any exception.
    except Exception as error:
        raise ToolConfigurationError(
            f"the configuration file {path} is not understood: {error}"
        ) from error


def _read_yaml(path):
    # As bytes, which YAML decodes as UTF-8, whatever the terminal's encoding.
    return yaml.load(path.read_bytes(), UniqueKeyLoader)


def _read_json(path):
    content = json.loads(path.read_bytes(), object_pairs_hook=_unique_keys)
    if isinstance(content, dict):
        # The version of traitlets' file format.
        content.pop("version", None)
    return content


def _unique_keys(pairs):
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key}: given twice in one place; keep one")
        found[key] = value
    return found


def _sections(content, where="at the top"):
    """Build a configuration; a section left empty in the file stays empty."""
    if content is None:
        return Config()
    if not isinstance(content, dict):
        raise ValueError(f"{where} there must be 'name: value', not {content!r}")
    found = Config()
    for key, value in content.items():
        if not isinstance(key, str) or not key:
            raise ValueError(f"{where}: {key!r} is not a name")
        is_section = key[0].upper() == key[0] and key[0] != "_"
        found[key] = _sections(value, f"in {key}") if is_section else value
    return found
