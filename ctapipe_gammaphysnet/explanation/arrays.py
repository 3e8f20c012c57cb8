"""The telescopes in the files whose images are explained."""

from ctapipe.core import ToolConfigurationError

from ..events.opening import open_events

__all__ = ["choose_types", "match_types", "read_arrays"]


def read_arrays(paths, focal_length_choice, log):
    """Read the array of each file; it must be the same in all.

    Parameters
    ----------
    paths : list of pathlib.Path
        Files with images and parameters.
    focal_length_choice : ctapipe.instrument.FocalLengthKind
        Which focal length to use, as for ctapipe's `HDF5EventSource`.
    log : logging.Logger
        Where to warn of telescopes without pointing.

    Returns
    -------
    dict of pathlib.Path to ctapipe.instrument.SubarrayDescription
        The arrays.

    Raises
    ------
    ToolConfigurationError
        If telescopes are not of the same types in all files.
    DL1FileError
        If a file cannot be read, or its truth is damaged.
    """
    arrays = {}
    for path in paths:
        with open_events(path, focal_length_choice) as reader:
            arrays[path] = reader.subarray
            if reader.is_simulation:
                reader.check_truth()
            for tel_id in reader.without_pointing(reader.subarray.tel_ids):
                log.warning(
                    "%s does not have the pointing of telescope %d: errors of its "
                    "directions and impact points are not known",
                    path,
                    tel_id,
                )
        if _types(arrays[path]) != _types(arrays[paths[0]]):
            raise ToolConfigurationError(
                f"{path} has other telescopes than {paths[0]}: explain one array at a "
                "time"
            )
    return arrays


def choose_types(subarray, names):
    """Choose the telescope types to explain.

    Parameters
    ----------
    subarray : ctapipe.instrument.SubarrayDescription
        The array.
    names : list of str
        The requested telescope types; empty for all.

    Returns
    -------
    list of str
        The telescope types, in the order of the array.

    Raises
    ------
    ToolConfigurationError
        If there is no telescope of a type.
    """
    types = list(dict.fromkeys(_types(subarray).values()))
    for name in names:
        if name not in types:
            raise ToolConfigurationError(
                f"there are no telescopes of type {name}, only {', '.join(types)}"
            )
    return [name for name in types if name in (names or types)]


def match_types(arrays, matches):
    """Find the network of each telescope type.

    Parameters
    ----------
    arrays : dict of pathlib.Path to ctapipe.instrument.SubarrayDescription
        The array of each file.
    matches : dict of pathlib.Path to dict of int to Match
        For each file the networks of its telescopes, as of a `LoadedModel`.

    Returns
    -------
    dict of str to Match
        The networks by the telescopes' type in the files.

    Raises
    ------
    ToolConfigurationError
        If telescopes of a type differ in their network or the order of their pixels.
    """
    types = {}
    for path, of_file in matches.items():
        for tel_id, match in of_file.items():
            name = str(arrays[path].tel[tel_id])
            if types.setdefault(name, match) is not match:
                raise ToolConfigurationError(
                    f"{path}: telescope {tel_id} has its pixels in another order than "
                    f"other telescopes of type {name}, or needs another network. "
                    "Explain one kind of them at a time: make files without the others "
                    "(ctapipe-process --EventSource.allowed_tels)"
                )
    return types


def _types(subarray):
    """Telescope type of each telescope."""
    return {tel_id: str(telescope) for tel_id, telescope in subarray.tel.items()}
