"""The plan of a training: networks, images and settings, checked before it begins."""

from dataclasses import dataclass, field

from ..events.opening import read_atmosphere
from ..events.preparation import InputPreparation
from ..events.quality import TrainingQualityQuery
from ..files.inputs import with_labels
from ..model.card import MemberCard, NetworkCard
from ..model.telescope import describe_telescope
from ..network import CameraLattice
from .augmentation import Augmentation
from .describe import describe_data, describe_settings, digest, measure_domain
from .fit import TrainingSet
from .inheritance import inherit
from .parent import choose_input, warn_of_seen_showers
from .recipe import InputTransformation
from .sample import check_batch_size, check_training, check_validation, split_images

__all__ = ["Plan", "prepare"]


@dataclass(frozen=True, eq=False)
class Plan:
    """Networks to train, and how.

    Attributes
    ----------
    files : dict of str to list of pathlib.Path
        ``"signal"`` and, unless the class is left out, ``"background"``.
    telescopes : dict of str to ctapipe.instrument.TelescopeDescription
        The telescope types, by their names.
    seeds : list of int
        Seeds of the members.
    network : NetworkConfig
        Architecture.
    recipe : Recipe
        Epochs, batch size, learning rates, weight decay.
    validation_fraction : float
        Share of the showers kept for validation.
    hardware : Hardware
        Where to compute.
    atmosphere : pathlib.Path or None
        File with the atmosphere of the showers; None if each file has its own.
    processing : dict of str to list of str
        ``image_extractors`` and ``image_cleaners`` that made the images of the files.
    parent : Parent or None
        The model with whose weights the training begins; None for random ones.
    geomagnetic_field_ut : tuple of float or None
        The showers' field, as in `NetworkCard`; None unless the networks know it.
    """

    files: dict
    telescopes: dict
    seeds: list
    network: object
    recipe: object
    validation_fraction: float
    hardware: object
    atmosphere: object = None
    processing: dict = field(default_factory=dict)
    parent: object = None
    geomagnetic_field_ut: tuple | None = None

    @property
    def labelled(self):
        """The files, each with its label."""
        return with_labels(self.files)


def prepare(plan, name, parent):
    """Find the training data of a telescope type, and all settings.

    Parameters
    ----------
    plan : Plan
        The plan.
    name : str
        Telescope type.
    parent : ctapipe.core.Tool
        Has the configuration of the components, and the log.

    Returns
    -------
    data : TrainingSet
        The images, and the network.
    settings : dict
        Settings that must not change when a training is resumed, as JSON values.

    Raises
    ------
    TrainingDataError
        If there are too few images.
    """
    inherited = _inherit(plan, name, parent.log)
    training, validation, selection = _select(plan, name, parent)
    paths = [path for path, _ in plan.labelled]
    geometry = plan.telescopes[name].camera.geometry
    augmentation = Augmentation(geometry=geometry, parent=parent)
    settings = describe_settings(
        plan.recipe,
        augmentation,
        plan.hardware.precision,
        plan.files,
        selection,
        plan.validation_fraction,
    )
    if plan.atmosphere is not None:
        settings["atmosphere"] = plan.atmosphere.name
    lattice = CameraLattice.from_geometry(geometry)
    transformation = InputTransformation(parent=parent)
    if inherited is None:
        card_of_input = transformation.card()
    else:
        card_of_input = choose_input(transformation, inherited, plan.parent.path)
        warn_of_seen_showers(name, validation, inherited, plan.parent.path, parent.log)
    preparation = InputPreparation(card_of_input, lattice)
    card = NetworkCard(
        telescope=describe_telescope(plan.telescopes[name]),
        network=plan.network,
        input=card_of_input,
        geomagnetic_field_ut=plan.geomagnetic_field_ut,
        domain=measure_domain(
            *(paths, training, preparation, augmentation, plan.network.needs_noise),
            **plan.processing,
        ),
        parent=inherited and inherited.card,
        training=settings | describe_data(training, validation),
        members=tuple(MemberCard(seed=seed) for seed in plan.seeds),
    )
    data = TrainingSet(
        paths,
        training,
        validation,
        card,
        lattice,
        augmentation,
        inherited.weights if inherited else {},
    )
    return data, settings | {
        "network": card.network.model_dump(mode="json"),
        "input": card.input.model_dump(mode="json"),
        "images": digest([training.shower.tolist(), training.row.tolist()]),
        "parent": card.parent and card.parent.sha256,
    }


def _inherit(plan, name, log):
    """What the networks of a telescope type get from a model; None without one."""
    if plan.parent is None:
        return None
    return inherit(plan.parent, plan.telescopes[name], plan.network, plan.seeds, log)


def _select(plan, name, parent):
    """Training and validation images, and counts of the selection."""
    paths, labels = zip(*plan.labelled, strict=True)
    query = TrainingQualityQuery(parent=parent)
    training, validation = split_images(
        paths,
        labels,
        name,
        query,
        plan.validation_fraction,
        plan.network.tasks,
        read_atmosphere(plan.atmosphere),
    )
    selection = query.to_table(functions=True)
    _check_images(plan, name, training, validation, selection, parent.log)
    return training, validation, selection


def _check_images(plan, name, training, validation, selection, log):
    """Check that there are enough images, of all classes."""
    counts = "\n".join(selection.pformat(max_lines=-1, max_width=-1))
    log.info("Selection of images of %s:\n%s", name, counts)
    n_classes = len({label for _, label in plan.labelled})
    check_training(name, training, n_classes, counts)
    check_batch_size(name, training, plan.recipe, log)
    if plan.validation_fraction > 0:
        check_validation(
            name,
            validation,
            n_classes,
            plan.hardware.n_processes,
            needed=plan.recipe.patience is not None,
            log=log,
        )
