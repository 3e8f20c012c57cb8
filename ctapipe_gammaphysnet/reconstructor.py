"""γ-PhysNet as a ctapipe `Reconstructor`, for ``ctapipe-process``.

Importing this module must stay cheap, because every ctapipe tool does it. Modules that
need torch are imported when a reconstructor is made.
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import astropy.units as u
import numpy as np
from ctapipe.atmosphere import AtmosphereDensityProfile
from ctapipe.containers import ArrayEventContainer
from ctapipe.core import ToolConfigurationError
from ctapipe.core.traits import CaselessStrEnum, ComponentName, Int, Unicode
from ctapipe.instrument import SubarrayDescription
from ctapipe.reco import Reconstructor, StereoCombiner
from numpy.typing import ArrayLike

# `ctapipe-info --plugins` shows the version in a plugin's module.
from . import __version__ as __version__
from .configuration.sections import CommandLineFirst, check_sections, tool_of
from .configuration.traits import GroupName
from .dl2.columns import telescope_columns
from .dl2.combination import choose_combiner, combine_event, make_combiners
from .dl2.containers import ModelName, kinds_of_tasks
from .dl2.event import fill_invalid, fill_telescope, name_model
from .events.axes import axes_of_event
from .events.background import Background, noise_of
from .events.event import (
    event_images,
    image_parameters,
    name_of,
    telescope_pointing,
    triggered_telescopes,
)
from .events.opening import check_source
from .events.quality import ImageQualityQuery
from .events.telescope_events import altitudes_of
from .files.paths import FilePath
from .model.domain import (
    BACKGROUND_NOT_COMPARED,
    BACKGROUND_OUTSIDE,
    POINTING_OUTSIDE,
    DomainWatch,
    OutsideDomainError,
    WatchedPreparation,
    processing_of,
)
from .model.errors import ModelFileError
from .tasks.axis import ImageAxes
from .tasks.conditions import that_need
from .tasks.frames import radians

__all__ = ["GammaPhysNetReconstructor"]


class GammaPhysNetReconstructor(CommandLineFirst, Reconstructor):
    """Energy, direction, impact point and gammaness from DL1 images with γ-PhysNet.

    Each telescope type is reconstructed by its own network, all from one model file.
    Each property has a group of its own in the DL2 tables: with the default prefix
    ``GammaPhysNetEnergy``, ``GammaPhysNetGeometry`` and ``GammaPhysNetClassifier``.

    Parameters
    ----------
    subarray : ctapipe.instrument.SubarrayDescription
        The telescopes whose events will be reconstructed.
    atmosphere_profile : ctapipe.atmosphere.AtmosphereDensityProfile, optional
        Not used.
    **kwargs
        Configuration: ``parent``, ``config``, or the traits themselves.
    """

    load_path = FilePath(
        default_value=None,
        allow_none=True,
        exists=True,
        directory_ok=False,
        help="Model file with the trained networks, one per telescope type.",
    ).tag(config=True)

    prefix = GroupName(
        default_value="GammaPhysNet",
        help=(
            "Common stem of the names of the DL2 groups and columns, which continue"
            " with ``Energy``, ``Geometry`` or ``Classifier``."
        ),
    ).tag(config=True)

    device = Unicode(
        default_value="auto",
        help=(
            "Where to compute: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` for the first"
            " GPU if there is one and the CPU otherwise."
        ),
    ).tag(config=True)

    precision = CaselessStrEnum(
        ["float32", "bfloat16"],
        default_value="float32",
        help=(
            "Precision of the convolutions. ``bfloat16`` rounds their factors to 8"
            " binary digits, which is faster on GPUs and on processors with AVX-512"
            " BF16. On others it is as fast as ``float32``."
        ),
    ).tag(config=True)

    engine = CaselessStrEnum(
        ["lattice", "indexed"],
        default_value="lattice",
        help=(
            "How convolutions over camera pixels are computed: ``lattice`` is several"
            " times as fast as ``indexed``, the reference; they agree to rounding."
        ),
    ).tag(config=True)

    batch_size = Int(
        default_value=256,
        min=1,
        help=(
            "Images per forward pass. More need more memory; on a CPU they are not"
            " faster. ``ctapipe-process`` never has that many, since it processes one"
            " event at a time."
        ),
    ).tag(config=True)

    missing_network = CaselessStrEnum(
        ["error", "warn", "ignore"],
        default_value="error",
        help=(
            "What to do if the subarray has a telescope type for which the model file"
            " has no network: stop, or continue with or without a warning. Events of"
            " such telescopes are then written as not valid, and counted."
        ),
    ).tag(config=True)

    outside_domain = CaselessStrEnum(
        ["warn", "error", "ignore"],
        default_value="warn",
        help=(
            "What to do if images or pointing are not as in the network's training:"
            " warn once for each telescope type and cause, stop, or nothing. Every 10"
            " images of a telescope, the medians of the last 20 are compared with the"
            " central 90 % of the training's: the charge of pixels without signal must"
            " be within 0.1 p.e. of them, its noise within 10 %, and the fraction of"
            " missing pixels at most 0.05 above. The altitude of the pointing must be"
            " within 5 deg of one in training. What the network does not depend on is"
            " not compared."
            " Image extractor and image cleaner are compared if they make the images"
            " or masks, and the model knows those of its training."
            " Images outside are counted, and so are images that are not compared: the"
            " last ones of a telescope, fewer than 10, and those without image mask."
        ),
    ).tag(config=True)

    stereo_combiner_cls = ComponentName(
        StereoCombiner,
        default_value=None,
        allow_none=True,
        help=(
            "How the telescopes are combined. Default: by their errors"
            " (``GammaPhysNetStereoCombiner``) if all networks predict these, else"
            " ``StereoMeanCombiner``. With ctapipe's combiners, the impact point is the"
            " mean weighted by the images' intensity."
        ),
    ).tag(config=True)

    needs_atmosphere_profile = False
    classes = (ImageQualityQuery,)

    def __init__(
        self,
        subarray: SubarrayDescription,
        atmosphere_profile: AtmosphereDensityProfile | None = None,
        **kwargs,
    ):
        if kwargs.get("parent") is not None:
            check_sections(tool_of(kwargs["parent"]).config)
        super().__init__(subarray, atmosphere_profile, **kwargs)
        if self.load_path is None:
            raise ToolConfigurationError(
                "GammaPhysNetReconstructor needs a model file: set "
                "GammaPhysNetReconstructor.load_path (in ctapipe-apply-gammaphysnet: "
                "--model)"
            )
        self.quality_query = ImageQualityQuery(parent=self)
        try:
            self._load_networks()
        except ModelFileError as error:
            # The kind of error that ctapipe's tools print without a traceback.
            raise ToolConfigurationError(str(error)) from error
        #: Combiners of the telescopes, by kind of DL2 information of the array.
        cards = [network.card for network in self._networks.values()]
        combiner = choose_combiner(self.stereo_combiner_cls, cards, self.load_path)
        self.stereo_combiners = make_combiners(
            self.kinds, self.prefix, combiner, parent=self
        )
        self._positions = self.subarray.tel_coords.cartesian.xyz.to_value(u.m).T
        self._altitudes = altitudes_of(self.subarray).to_value(u.m)
        check_source(getattr(tool_of(self), "event_source", None))
        #: Counts and describes what is not as in training.
        self.domain_watch = DomainWatch(
            self._report_outside, self.quality_query.record, self.network_of
        )
        counts = ["DL1 data", "network for telescope type"]
        counts += ["image that the network can use"]
        if any(map(self._is_watched, self._networks.values())):
            counts += [BACKGROUND_OUTSIDE, BACKGROUND_NOT_COMPARED, POINTING_OUTSIDE]
        for name in ("valid {}", "valid {} of the array"):
            counts += map(name.format, self.stereo_combiners)
        # The table has all counts, in this order, even those that stay 0.
        for count in counts:
            self.quality_query.record(count, 0)

    def _load_networks(self):
        """Load the model file, and find the network of each telescope."""
        from .model.loading import load_model
        from .model.matching import report_missing

        model = load_model(
            self.load_path,
            {None: self.subarray},
            {str(telescope) for telescope in self.subarray.telescope_types},
            on_missing=partial(
                report_missing, self.load_path, self.missing_network, self.log
            ),
            log=self.log,
            device=self.device,
            precision=self.precision,
            engine=self.engine,
            batch_size=self.batch_size,
            n_jobs=self.n_jobs,
        )
        #: Identification of the model in the output.
        self.model_name = ModelName(model.sha256, model.card.note)
        #: Kinds of DL2 information that all networks of the file predict, so that the
        #: output has the same tables for any telescopes: keys of `CONTAINERS`.
        self.kinds = kinds_of_tasks(*(n.network.tasks for n in model.card.networks))
        #: Networks, by telescope type.
        self._networks = model.networks
        matches = model.matches[None]
        #: Type of the network, for each telescope that has one.
        self.network_of = {tel_id: match.type for tel_id, match in matches.items()}
        preparations = {
            match: self._make_preparation(match) for match in set(matches.values())
        }
        self._preparations = {
            tel_id: preparations[match] for tel_id, match in matches.items()
        }
        #: Telescopes for which a warning of unknown pointing was given.
        self._warned_of_pointing = set()

    def _make_preparation(self, match):
        network = self._networks[match.type]
        prepare = network.predictor.prepare.reordered(match.order)
        needs_noise = network.card.network.needs_noise
        return WatchedPreparation(prepare, self._is_watched(network), needs_noise)

    def _is_watched(self, network):
        return self.outside_domain != "ignore" and network.card.domain is not None

    def _report_outside(self, text):
        if self.outside_domain == "error":
            raise OutsideDomainError(
                f"{text}. To go on, set GammaPhysNetReconstructor.outside_domain to "
                "'warn' or 'ignore'"
            )
        self.log.warning("%s", text)

    def __call__(self, event: ArrayEventContainer) -> None:
        """Predict, and fill the DL2 containers of telescopes and array.

        All triggered telescopes and all events get containers, valid or not.

        Parameters
        ----------
        event : ctapipe.containers.ArrayEventContainer
            The event, with DL1 images and parameters.

        Raises
        ------
        MissingImagesError
            If there are DL1 parameters, but no images.
        UnfitImagesError
            If images do not fit the camera.
        """
        predicted = {}
        for name, groups in self._select(event).items():
            predicted |= self._predict(event, name, groups)
        for tel_id in triggered_telescopes(event):
            columns, row = predicted.get(tel_id, ({}, None))
            others = [kind for kind in self.kinds if kind not in columns]
            fill_telescope(event, tel_id, self.prefix, columns, row)
            fill_invalid(event, tel_id, self.prefix, others)
        for kind, combiners in self.stereo_combiners.items():
            valid = combine_event(combiners, event)
            self.quality_query.record(f"valid {kind} of the array", valid)
        name_model(event, self.prefix, self.kinds, self.model_name)

    def _select(self, event):
        """Telescopes to reconstruct, by network and preparation of their images."""
        selected = {}
        for tel_id in triggered_telescopes(event):
            parameters = image_parameters(event, tel_id)
            # A telescope can trigger without data being read out.
            has_data = parameters is not None
            prepare = self._preparations.get(tel_id)
            self.quality_query.record("DL1 data", has_data)
            self.quality_query.record("network for telescope type", prepare is not None)
            is_good = has_data and self.quality_query.passes(parameters)
            if is_good and prepare is not None:
                groups = selected.setdefault(self.network_of[tel_id], {})
                groups.setdefault(prepare, []).append(tel_id)
        return selected

    def _predict(self, event, name, groups):
        """Find columns and row of each telescope whose image the network can use."""
        prepared, backgrounds = [], []
        for prepare, tel_ids in groups.items():
            *images, background = event_images(event, tel_ids, prepare)
            pointing = self._pointing(event, name, tel_ids)
            altitude_deg = pointing[0].to_value(u.deg)
            for row, tel_id in enumerate(tel_ids):
                one = slice(row, row + 1)
                part = None if background is None else background.of(one)
                self.watch(name, tel_id, part, altitude_deg[one])
            prepared.append((*images, *pointing))
            backgrounds.append(background)
        inputs, has_pixels, *pointing = map(np.concatenate, zip(*prepared, strict=True))
        tel_ids = list(chain.from_iterable(groups.values()))
        outputs = self.run_network(name, inputs, backgrounds, *pointing)
        axes = axes_of_event(event, tel_ids)
        columns = self.columns(outputs, has_pixels, tel_ids, axes, *pointing)
        return {tel_ids[row]: (columns, row) for row in np.flatnonzero(has_pixels)}

    def _pointing(self, event, name, tel_ids):
        """Altitude and azimuth of telescopes at an event; warn if unknown."""
        pointing = telescope_pointing(event, tel_ids)
        if self.needs_pointing(name):
            conditions = self._networks[name].card.network.conditions
            all_lost = that_need(conditions, "pointing")
            lost = "predictions" if all_lost else "directions and impact points"
            known = np.isfinite([angle.value for angle in pointing]).all(axis=0)
            unknown = {tel_ids[row] for row in np.flatnonzero(~known)}
            for tel_id in sorted(unknown - self._warned_of_pointing):
                self._warned_of_pointing.add(tel_id)
                self.log.warning(
                    "the pointing of telescope %d is not known at %s: without it, %s "
                    "are not valid",
                    *(tel_id, name_of(event), lost),
                )
        return pointing

    def needs_pointing(self, name: str) -> bool:
        """Check whether a network's predictions need the pointing.

        Parameters
        ----------
        name : str
            The telescope type.

        Returns
        -------
        bool
            Whether it predicts the direction or the impact point, or one of its
            conditions needs it.
        """
        return self._networks[name].card.network.needs_pointing

    def watch(
        self,
        name: str,
        tel_id: int,
        background: Background | None,
        altitude_deg: np.ndarray,
        path: Path | None = None,
    ) -> None:
        """Compare images and pointing of a telescope with the network's training.

        Parameters
        ----------
        name : str
            The telescope type.
        tel_id : int
            The telescope.
        background : Background or None
            Of its images, shape (n,); None if it is not known.
        altitude_deg : numpy.ndarray
            Altitude of its pointing in deg, shape (n,).
        path : pathlib.Path, optional
            Their file, which messages then name.

        Raises
        ------
        OutsideDomainError
            If they are outside, and ``outside_domain`` is ``error``.
        """
        network = self._networks[name]
        if not self._is_watched(network):
            return
        self.domain_watch.check_processing(tel_id, network.card, self._processing_of)
        if background is None:
            self.quality_query.record(BACKGROUND_NOT_COMPARED, len(altitude_deg))
        else:
            self.domain_watch.check_background(tel_id, network.card, background, path)
        self.domain_watch.check_pointing(tel_id, network.card, altitude_deg, path)

    def _processing_of(self, tel_id):
        return processing_of(tool_of(self), tel_id)

    def preparation_of(self, tel_id: int) -> WatchedPreparation:
        """Return the preparation of a telescope's images for its network.

        Parameters
        ----------
        tel_id : int
            The telescope; it must have a network.

        Returns
        -------
        WatchedPreparation
            The preparation that the network's card describes, of images with the
            telescope's order of pixels.
        """
        return self._preparations[tel_id]

    def run_network(
        self,
        name: str,
        inputs: np.ndarray,
        backgrounds: Sequence[Background | None],
        *pointing: u.Quantity,
    ) -> dict[str, np.ndarray]:
        """Run a network.

        Parameters
        ----------
        name : str
            Its telescope type.
        inputs : numpy.ndarray
            Images prepared by `preparation_of` telescopes, shape (n, 2, n_pixels),
            float32.
        backgrounds : sequence of Background or None
            Of these images, in their order, from the same preparations.
        *pointing : astropy.units.Quantity
            Altitude and azimuth of the telescope at each image, shape (n,).

        Returns
        -------
        dict of str to numpy.ndarray
            Output of each task, shape (n_members, n, n_outputs).
        """
        predictor = self._networks[name].predictor
        conditions = predictor.conditions(*pointing, noise_of(backgrounds))
        return predictor(inputs, conditions)

    def columns(
        self,
        outputs: dict[str, np.ndarray],
        has_pixels: np.ndarray,
        tel_ids: ArrayLike,
        axes: ImageAxes,
        *pointing: u.Quantity,
    ) -> dict[str, dict[str, np.ndarray]]:
        """Make DL2 columns from a network's outputs, and count valid predictions.

        Parameters
        ----------
        outputs : dict of str to numpy.ndarray
            Outputs from `run_network`.
        has_pixels : numpy.ndarray
            False for images without any pixel, whose predictions are meaningless, shape
            (n,), bool.
        tel_ids : array_like of int
            Telescope of each image, shape (n,); all are of one type.
        axes : ImageAxes
            Axes of the images, shape (n,).
        *pointing : astropy.units.Quantity
            Altitude and azimuth of the telescope at each image, shape (n,).

        Returns
        -------
        dict of str to dict of str to array
            As `dl2.columns.telescope_columns` returns them.
        """
        self.quality_query.record("image that the network can use", has_pixels.sum())
        index = self.subarray.tel_ids_to_indices(tel_ids)
        where = *map(radians, pointing), self._positions[index], self._altitudes[index]
        card = self._networks[self.network_of[tel_ids[0]]].card
        known = card.targets, axes, [member.calibration for member in card.members]
        columns = telescope_columns(outputs, *where, *known)
        for kind, values in columns.items():
            if "is_valid" in values:
                valid = has_pixels & values["is_valid"]
                self.quality_query.record(f"valid {kind}", valid.sum())
        return columns
