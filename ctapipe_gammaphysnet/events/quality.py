"""Select images by their parameters, and count them."""

import ast
import builtins
import difflib

from astropy.table import Table, vstack
from ctapipe.core import QualityQuery, ToolConfigurationError
from ctapipe.core.expression_engine import ALLOWED_GLOBALS
from ctapipe.core.traits import List, Tuple, Unicode
from ctapipe.utils import EventTypeFilter

from ..configuration.sections import CommandLineFirst
from .event import named_parameters
from .event_types import name_allowed

__all__ = ["INTENSITY", "ImageQualityQuery", "TrainingQualityQuery"]

#: Names of the intensity. Old files have parameters in the camera frame: lengths are in
#: m instead of deg, but the intensity is the same.
INTENSITY = ("hillas_intensity", "camera_frame_hillas_intensity")


class ImageQualityQuery(CommandLineFirst, QualityQuery):
    """Selects the images to reconstruct, and counts the results.

    The expressions use the column names of ctapipe's DL1 parameters tables, for
    example ``hillas_intensity > 50`` or ``leakage_intensity_width_2 < 0.2``. In old
    files, with parameters in the camera frame, the intensity can have this name, too.
    All other names are those of the file, such as ``camera_frame_hillas_width``.

    Parameters
    ----------
    **kwargs
        Configuration: ``parent``, ``config``, or the traits themselves.
    """

    quality_criteria = List(
        Tuple(Unicode(), Unicode()),
        default_value=[("signal after cleaning", "morphology_n_pixels > 0")],
        help=QualityQuery.quality_criteria.help,
    ).tag(config=True)

    #: Filter of event types; None for all, since ``ctapipe-process`` has its own.
    event_types = None

    def __init__(self, **kwargs):
        try:
            super().__init__(**kwargs)
        except TypeError as error:
            # A criterion is not a valid expression.
            raise ToolConfigurationError(f"{self._where}: {error}") from error
        self._outcomes = {}
        self._names = set().union(*(_names_in(e) for _, e in self.quality_criteria))

    @property
    def _where(self):
        return f"{type(self).__name__}.quality_criteria"

    def __call__(self, **parameters):
        """Apply the criteria to one image, and count it.

        Parameters
        ----------
        **parameters
            Its DL1 parameters.

        Returns
        -------
        numpy.ndarray
            Which of the criteria it passes, shape (n_criteria,), bool.

        Raises
        ------
        ctapipe.core.ToolConfigurationError
            If a criterion cannot be computed.
        """
        others = _other_names(parameters)
        others = {name: parameters[other] for name, other in others.items()}
        try:
            return super().__call__(**parameters, **others)
        except (ValueError, TypeError) as error:
            self._explain_missing(parameters, "the event")
            raise ToolConfigurationError(f"{self._where}: {error}") from error

    def passes(self, parameters):
        """Apply the criteria to an image of an event, and count it.

        Parameters
        ----------
        parameters : ctapipe.containers.ImageParametersContainer
            Its DL1 parameters.

        Returns
        -------
        bool
            Whether it passes all criteria.

        Raises
        ------
        ctapipe.core.ToolConfigurationError
            If a criterion cannot be computed.
        """
        columns = named_parameters(parameters, self._names)
        if len(columns) < len(self._names):
            # The rest has another name, or is missing: it is looked for among all.
            columns = named_parameters(parameters)
        return bool(self(**columns).all())

    def mask(self, parameters, source="the file"):
        """Select many images at once, and count them.

        Parameters
        ----------
        parameters : astropy.table.Table
            DL1 parameters, n rows.
        source : pathlib.Path or str
            The file that they are from, for messages.

        Returns
        -------
        numpy.ndarray
            Which of them pass all criteria, shape (n,), bool.

        Raises
        ------
        ctapipe.core.ToolConfigurationError
            If a criterion cannot be computed for many images at once.
        """
        table = parameters.copy(copy_data=False)
        for name, other in _other_names(table.colnames).items():
            table[name] = table[other]
        try:
            return self.get_table_mask(table)
        except (ValueError, TypeError) as error:
            self._explain_missing(parameters.colnames, source)
            raise ToolConfigurationError(
                f"{self._where} cannot be computed for many images at once: {error}. "
                "Use '&', '|' and '~' with brackets instead of 'and', 'or' and 'not', "
                "and units if columns have them"
            ) from error

    def _explain_missing(self, available, source):
        """Name the parameters that criteria need and the file lacks."""
        for _, expression in self.quality_criteria:
            known = {*available, *_other_names(available)}
            for name in sorted(_names_in(expression) - known):
                raise ToolConfigurationError(
                    f"{self._where}: {expression!r} needs {name}, which {source} does "
                    f"not have. {_near(name, available)}"
                )

    def record(self, outcome, n_passed):
        """Count telescope events by an outcome other than the criteria.

        Parameters
        ----------
        outcome : str
            The outcome, for example ``valid energy``.
        n_passed : int
            Number of telescope events with this outcome.
        """
        self._outcomes[outcome] = self._outcomes.get(outcome, 0) + int(n_passed)

    def to_table(self, functions=False):
        """Return the counts of telescope events: criteria first, then outcomes.

        Parameters
        ----------
        functions : bool
            Whether to include the expressions of the criteria.

        Returns
        -------
        astropy.table.Table
            Columns criteria, counts, cumulative_counts and, if asked for, func.
        """
        criteria = super().to_table(functions)
        if not self._outcomes:
            return criteria
        counts = list(self._outcomes.values())
        outcomes = {
            "criteria": list(self._outcomes),
            "counts": counts,
            "cumulative_counts": counts,
        }
        if functions:
            outcomes["func"] = [""] * len(counts)
        return vstack([criteria, Table(outcomes)])


def _other_names(available):
    """Other names that parameters can have, and the names that they do have."""
    return {
        name: other
        for name, other in zip(INTENSITY, reversed(INTENSITY), strict=True)
        if other in available and name not in available
    }


def _names_in(expression):
    """Names of the parameters in an expression."""
    tree = ast.parse(expression.strip(), mode="eval")
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    own = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    return {n.id for n in names} - own - set(ALLOWED_GLOBALS) - set(dir(builtins))


def _near(name, available):
    """Suggest names that may be meant."""
    available = sorted(available)
    near = [n for n in available if n.endswith(name) or name.endswith(n)]
    near += difflib.get_close_matches(name, set(available) - set(near))
    if near:
        return f"It has {', '.join(near)}"
    return f"It has {', '.join(available) or 'none'}"


class TrainingQualityQuery(ImageQualityQuery):
    """Selects the training images, and counts those that pass each criterion.

    Events of types that ctapipe's ``EventTypeFilter`` does not allow are left out
    before, and counted. The default criteria are loose cuts on the intensity, the size
    of the image, and its truncation by the camera's edge. The paper (Section 3.2) uses
    the same quantities, but gives no values.

    Parameters
    ----------
    **kwargs
        Configuration: ``parent``, ``config``, or the traits themselves.
    """

    quality_criteria = List(
        Tuple(Unicode(), Unicode()),
        default_value=[
            ("enough light", "hillas_intensity > 50"),
            ("enough pixels", "morphology_n_pixels > 2"),
            ("not truncated", "leakage_intensity_width_2 < 0.2"),
        ],
        help=QualityQuery.quality_criteria.help,
    ).tag(config=True)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.event_types = EventTypeFilter(parent=self)

    def describe(self):
        """Describe the selection.

        Returns
        -------
        list of str
            The expressions, after the allowed types of events if some are left out.
        """
        allowed = name_allowed(self.event_types)
        types = [] if allowed is None else [f"event type {' or '.join(allowed)}"]
        return types + [expression for _, expression in self.quality_criteria]
