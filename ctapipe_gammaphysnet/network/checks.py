"""Checks of what compiled code gets, which reads and writes without looking.

Whatever a check refuses would be read from behind an array, or written there, and give
predictions of what happens to be in memory, or a crash.
"""

import numpy as np

__all__ = ["check_array", "check_table"]


def check_array(name, array, shape, dtype):
    """Check that an array is what compiled code takes it for.

    Parameters
    ----------
    name : str
        What to call it.
    array : numpy.ndarray
        The array.
    shape : tuple of int or None
        Its shape; None where any length will do.
    dtype : numpy.dtype
        Its type.

    Raises
    ------
    ValueError
        If shape or type are others, or the array is not contiguous.
    """
    if not (
        array.dtype == dtype
        and array.ndim == len(shape)
        and all(n in (m, None) for n, m in zip(shape, array.shape, strict=True))
        and array.flags.c_contiguous
    ):
        lengths = ", ".join("any" if n is None else str(n) for n in shape)
        order = "" if array.flags.c_contiguous else "not contiguous "
        raise ValueError(
            f"{name} must have the shape ({lengths}) in contiguous {np.dtype(dtype)}, "
            f"got {array.shape} in {order}{array.dtype}"
        )


def check_table(name, table, shape, n_positions):
    """Check a table of positions at which compiled code reads.

    Parameters
    ----------
    name : str
        What to call it.
    table : numpy.ndarray
        The table: int64, with -1 for no position.
    shape : tuple of int
        Its shape.
    n_positions : int
        Number of positions there are.

    Raises
    ------
    ValueError
        If the array is another one, or has a position that there is not.
    """
    check_array(name, table, shape, np.int64)
    if table.size > 0 and not -1 <= table.min() <= table.max() < n_positions:
        raise ValueError(
            f"{name} must be from -1 to {n_positions - 1}, got {table.min()} to "
            f"{table.max()}"
        )
