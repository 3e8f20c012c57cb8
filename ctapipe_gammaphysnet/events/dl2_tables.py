"""Predictions of algorithms, in the DL2 tables of a ctapipe file."""

from astropy.table import QTable
from ctapipe.io import read_table

from ..compat import PARTICLE_TYPE

__all__ = ["list_groups", "read_group"]

#: Names of the groups of a kind: files may be older than this ctapipe.
_SPELLINGS = {
    "energy": ("energy",),
    "geometry": ("geometry",),
    PARTICLE_TYPE: ("particle_type", "classification"),
}


def list_groups(file, level):
    """List the groups of predictions in a file.

    Parameters
    ----------
    file : tables.File
        The open file.
    level : {"telescope", "array"}
        Predictions of the telescopes, or of the array.

    Returns
    -------
    dict of str to dict of str to dict of int to str
        For each kind and group the tables by telescope; 0 is the array.
    """
    of_level = "subarray" if level == "array" else "telescope"
    found = {kind: {} for kind in _SPELLINGS}
    for kind, spellings in _SPELLINGS.items():
        for spelling in spellings:
            parent = f"/dl2/event/{of_level}/{spelling}"
            # Only names: opening each of hundreds of tables would take long.
            for group in file.root[parent]._v_children if parent in file else ():
                path = f"{parent}/{group}"
                found[kind][group] = {0: path}
                if level == "telescope":
                    found[kind][group] = {
                        int(table.removeprefix("tel_")): f"{path}/{table}"
                        for table in file.root[path]._v_children
                    }
    return found


def read_group(file, level, group, node):
    """Read the predictions of a group.

    Parameters
    ----------
    file, level : tables.File, str
        As in `list_groups`.
    group : str
        Name of the group.
    node : str
        Path of the table.

    Returns
    -------
    astropy.table.QTable
        Its columns have the names of the container's fields, without the group's.
    """
    table = read_table(file, node, table_cls=QTable)
    prefix = f"{group}_" if level == "array" else f"{group}_tel_"
    for name in table.colnames:
        if name.startswith(prefix):
            table.rename_column(name, name.removeprefix(prefix))
    return table
