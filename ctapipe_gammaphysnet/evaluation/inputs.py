"""Inputs of an evaluation: algorithms by name, and the telescopes of files."""

from ctapipe.core import ToolConfigurationError

from ..files.inputs import refuse_same_names
from ..files.paths import named_models, printable

__all__ = ["SPECTRA", "choose_telescopes", "name_algorithms"]

#: Spectra of pyirf that events can be weighted to. Not imported: pyirf may be missing.
SPECTRA = (
    "CRAB_HEGRA",
    "CRAB_MAGIC_JHEAP2015",
    "PDG_ALL_PARTICLE",
    "IRFDOC_PROTON_SPECTRUM",
    "IRFDOC_ELECTRON_SPECTRUM",
    "DAMPE_P_He_SPECTRUM",
)


def name_algorithms(models, references):
    """Find model files and groups of DL2 by name.

    Parameters
    ----------
    models : list of str
        Paths or patterns, or ``NAME=FILE``.
    references : list of str
        Prefixes, or ``NAME=PREFIX,PREFIX``.

    Returns
    -------
    paths : dict of str to pathlib.Path
        The model files.
    groups : dict of str to list of list of str
        Groups of each reference, as `named_groups` returns them.

    Raises
    ------
    ToolConfigurationError
        If there is no algorithm, or two have the same name.
    """
    # Imported here: the tool's help must not wait for PyTorch.
    from .dl2_tables import named_groups

    paths = [pair for text in models for pair in named_models(text)]
    groups = [(printable(n), g) for n, g in map(named_groups, references)]
    if not (paths or groups):
        raise ToolConfigurationError(
            "give what to evaluate: --model FILE, --reference PREFIX, or both"
        )
    names = [name for name, _ in [*paths, *groups]]
    refuse_same_names(names, "algorithms", "name one of them, NAME=...")
    return dict(paths), dict(groups)


def choose_telescopes(arrays, names):
    """Choose the telescopes to evaluate.

    Parameters
    ----------
    arrays : dict of pathlib.Path to ctapipe.instrument.SubarrayDescription
        The array of each file.
    names : list of str
        The requested telescope types; empty for all.

    Returns
    -------
    tel_ids : dict of pathlib.Path to list of int
        The telescopes of each file.
    types : list of str
        Their types.

    Raises
    ------
    ToolConfigurationError
        If a file has no telescope of a type.
    """
    chosen, types = {}, {}
    for path, subarray in arrays.items():
        type_of = {tel_id: str(t) for tel_id, t in subarray.tel.items()}
        present = set(type_of.values())
        wanted = set(names) or present
        for name in wanted - present:
            raise ToolConfigurationError(
                f"{path} has no telescopes of type {name}, only "
                f"{', '.join(sorted(present))}"
            )
        chosen[path] = [t for t, name in type_of.items() if name in wanted]
        types |= dict.fromkeys(type_of[t] for t in chosen[path])
    return chosen, list(types)
