"""Tables as text, for people and for other programs."""

import io

from .output import write_whole

__all__ = ["write_ecsv"]


def write_ecsv(table, path):
    """Write a table as text, whole or not at all.

    Parameters
    ----------
    table : astropy.table.Table
        The table.
    path : pathlib.Path
        The file.
    """
    text = io.StringIO()
    table.write(text, format="ascii.ecsv")
    write_whole(path, text.getvalue().encode())
