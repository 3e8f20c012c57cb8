"""Parts of panels, for all figures: colours, curves, bands, axes, texts, legends.

Use them in `drawing.figure_style`.
"""

import textwrap
from itertools import cycle

import numpy as np

__all__ = [
    "NAME_WIDTH",
    "curve_styles",
    "draw_band",
    "legend_entries",
    "mark_isolated",
    "place_legend",
    "plain_text",
    "say_empty",
    "set_logarithmic",
]

#: Colours of curves by Okabe and Ito, which colour-blind readers can distinguish.
#: Line styles and markers distinguish the curves, too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P")
#: Characters per line of a name in a legend or a title.
NAME_WIDTH = 40
#: Height in inches of a line of a legend.
_LINE_HEIGHT = 0.19
#: Characters per line of the text in an empty panel.
_WRAPPED = 28


def plain_text(text, width=None):
    """Make matplotlib show a text literally, such as the name of a file.

    Parameters
    ----------
    text : str
        The text. Dollar signs do not make a formula, and characters that the font (or
        any font, such as a line break) does not have are shown by their number.
    width : int, optional
        Break lines after this many characters.

    Returns
    -------
    str
        The text for matplotlib.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    letters = [
        c
        if c.isprintable() and font.get_char_index(ord(c)) > 0
        else c.encode("unicode_escape").decode()
        for c in text
    ]
    width = width or max(len(letters), 1)
    lines = [
        "".join(letters[start : start + width]).replace("$", r"\$")
        for start in range(0, len(letters), width)
    ]
    shown = "\n".join(lines)
    # matplotlib leaves labels that begin with an underscore out of legends.
    return f" {shown}" if shown.startswith("_") else shown


def curve_styles(names):
    """Choose colour, line style and marker of each curve.

    Parameters
    ----------
    names : iterable of str
        Names of the curves.

    Returns
    -------
    dict of str to dict of str to str
        For each name ``color``, ``linestyle`` and ``marker``.
    """
    styles = zip(cycle(_COLOURS), cycle(_LINES), cycle(_MARKERS), strict=False)
    return {
        name: {"color": colour, "linestyle": line, "marker": marker}
        for name, (colour, line, marker) in zip(names, styles, strict=False)
    }


def legend_entries(axes):
    """Collect the legend entries of several panels, each label once.

    Parameters
    ----------
    axes : iterable of matplotlib.axes.Axes
        The panels.

    Returns
    -------
    dict of str to matplotlib.artist.Artist
        Handles by their labels, in the order in which they were drawn.
    """
    entries = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return entries


def place_legend(figure, entries, n_columns, where="lower"):
    """Place a legend below or above all panels, and make room for it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure, with constrained layout.
    entries : dict of str to matplotlib.artist.Artist
        Handles by their labels, in their order.
    n_columns : int
        Number of columns.
    where : {"lower", "upper"}
        Below or above.
    """
    if not entries:
        return
    n_columns = min(n_columns, len(entries))
    lines = [label.count("\n") + 1 for label in entries]
    n_rows = -(-len(lines) // n_columns)
    # Columns are filled one after another.
    columns = [lines[i : i + n_rows] for i in range(0, len(lines), n_rows)]
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + _LINE_HEIGHT * max(map(sum, columns)))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc=f"outside {where} center",
        ncols=n_columns,
        fontsize="small",
        frameon=False,
    )


def set_logarithmic(axis):
    """Make an axis logarithmic, with a few numbers in plain notation.

    Call it when everything on the axis is drawn.

    Parameters
    ----------
    axis : matplotlib.axis.Axis
        The axis.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def mark_isolated(values):
    """Choose markers for the values of a line that has no segment there.

    Parameters
    ----------
    values : array_like
        The line's values, shape (n,). Those that are not finite interrupt it.

    Returns
    -------
    dict of str to object
        Keywords for ``plot``: ``marker`` and ``markevery`` if a value has no
        neighbours, else none.
    """
    isolated = _is_isolated(values)
    return {"marker": ".", "markevery": isolated} if isolated.any() else {}


def _is_isolated(values):
    is_finite = np.pad(np.isfinite(values), 1)
    return is_finite[1:-1] & ~is_finite[:-2] & ~is_finite[2:]


def draw_band(axis, x, mean, deviation, colour, label=None, step=None):
    """Draw a band about a curve, and a bar where a point has no neighbours.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        The panel.
    x, mean, deviation : numpy.ndarray
        Positions, middle and half height of the band, shape (n,).
    colour : str
        Colour; the band has a light shade of it.
    label : str, optional
        Label in a legend.
    step : {"pre", "post", "mid"}, optional
        How it steps, for the band of a histogram.
    """
    shade = {"color": colour, "alpha": 0.2}
    ends = mean - deviation, mean + deviation
    axis.fill_between(x, *ends, **shade, linewidth=0, step=step, label=label)
    isolated = _is_isolated(ends[0])
    if isolated.any():
        axis.vlines(x[isolated], *(end[isolated] for end in ends), **shade, linewidth=6)


def say_empty(axis, reason, below=False):
    """Say in an empty panel why it is empty.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        The panel.
    reason : str
        Why.
    below : bool
        Whether to say it below the panel, where room is made for it.
    """
    box = {"facecolor": "white", "edgecolor": "0.5", "alpha": 0.9}
    text = axis.text(
        0.5,
        0 if below else 0.5,
        textwrap.fill(reason, _WRAPPED),
        ha="center",
        va="top" if below else "center",
        fontsize="small",
        transform=axis.transAxes,
        bbox=None if below else box,
    )
    text.set_in_layout(below)
