"""Which images are reconstructed, and how many were."""

from astropy.table import Table, vstack
from ctapipe.core import QualityQuery, ToolConfigurationError
from ctapipe.core.traits import List, Tuple, Unicode

__all__ = ["ImageQualityQuery", "TrainingQualityQuery"]


class ImageQualityQuery(QualityQuery):
    """Selects the images to reconstruct, and counts what became of them.

    The expressions use the column names of ctapipe's DL1 parameters tables, for
    example ``hillas_intensity > 50`` or ``leakage_intensity_width_2 < 0.2``.

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

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._outcomes = {}

    def mask(self, parameters):
        """Select many images at once, and count them.

        Parameters
        ----------
        parameters : astropy.table.Table
            DL1 parameters, n rows.

        Returns
        -------
        numpy.ndarray
            Which of them pass all criteria, shape (n,), bool.

        Raises
        ------
        ctapipe.core.ToolConfigurationError
            If a criterion cannot be computed for many images at once.
        """
        try:
            return self.get_table_mask(parameters)
        except (ValueError, TypeError) as error:
            raise ToolConfigurationError(
                f"{type(self).__name__}.quality_criteria cannot be computed for many "
                f"images at once: {error}. Use '&', '|' and '~' with brackets in place "
                "of 'and', 'or' and 'not', and units where columns have them"
            ) from error

    def record(self, outcome, n_passed):
        """Count telescope events by an outcome that no criterion tells.

        Parameters
        ----------
        outcome : str
            What happened, for example ``valid energy``.
        n_passed : int
            To how many telescope events.
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


class TrainingQualityQuery(ImageQualityQuery):
    """Selects the images to train on, and counts what each criterion leaves.

    The defaults are loose cuts on the amount of light, the size of the image, and its
    truncation by the camera's edge, as the paper's (Section 3.2), which gives no
    values.
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
