"""Options that take several values."""

__all__ = ["repeat_options"]


def repeat_options(argv, options):
    """Repeat options before each of their values.

    ``--seeds 0 1`` and ``--seeds=0 1`` become ``--seeds 0 --seeds 1``: lists can be
    given in each of these ways, where traitlets only understands the last.

    Parameters
    ----------
    argv : list of str
        The command line.
    options : collection of str
        The options that take several values, with their dashes.

    Returns
    -------
    list of str
        The command line as traitlets understands it.
    """
    repeated, option, n_values = [], None, 0
    for argument in argv:
        if argument.startswith("-"):
            option, equals, _ = argument.partition("=")
            n_values = int(bool(equals))
        elif option in options:
            if n_values > 0:
                repeated.append(option)
            n_values += 1
        repeated.append(argument)
    return repeated
