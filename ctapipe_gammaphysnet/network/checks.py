"""Checks of the input of compiled code, which has no checks of its own.

Without them it would read or write beyond the end of an array, and predict from
whatever is in memory, or crash.
"""

import numpy as np

__all__ = ["check_array", "check_table"]


def check_array(name, array, shape, dtype):
    """Check that an array is what compiled code expects.

    Parameters
    ----------
    name : str
        Its name in the message.
    array : numpy.ndarray
        The array.
    shape : tuple of int or None
        Its shape; None where any length will do.
    dtype : numpy.dtype
        Its type.

    Raises
    ------
    ValueError
        If shape or type differ, or the array is not contiguous.
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
    """Check a table of positions from which compiled code reads.

    Parameters
    ----------
    name : str
        Its name in the message.
    table : numpy.ndarray
        The table: int64, with -1 for no position.
    shape : tuple of int
        Its shape.
    n_positions : int
        Number of positions that exist.

    Raises
    ------
    ValueError
        If shape or type differ, or a position does not exist.
    """
    check_array(name, table, shape, np.int64)
    if table.size > 0 and not -1 <= table.min() <= table.max() < n_positions:
        raise ValueError(
            f"{name} must be from -1 to {n_positions - 1}, got {table.min()} to "
            f"{table.max()}"
        )
