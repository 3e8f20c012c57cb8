"""Make a model of this package from a network that gammalearn trained."""

from datetime import UTC, datetime

import numpy as np
from scipy.spatial import KDTree

from ..model.card import InputCard, MemberCard, ModelCard, NetworkCard
from ..model.file import Model
from ..model.telescope import POSITION_TOLERANCE
from ..network import CameraLattice
from ..network.lattice import LatticeError
from ..tasks import TASKS
from .errors import ImportedModelError
from .weights import convert_weights, describe_network

__all__ = ["import_model"]


def import_model(weights, record, settings, telescope, camera=None):
    """Make a model.

    Targets keep their meaning: gammalearn's differences of altitude and azimuth, and of
    the core on the ground.

    Parameters
    ----------
    weights : dict of str to numpy.ndarray
        As from `read_checkpoint`.
    record : dict of str to object
        As from `read_checkpoint`.
    settings : Settings
        As from `read_settings`.
    telescope : TelescopeCard
        The telescope for which the model will be.
    camera : tuple of array_like, optional
        Positions x and y of the pixels in m, in the order of the training; by default
        that of the telescope.

    Returns
    -------
    Model
        The model, with one network of one member.

    Raises
    ------
    ImportedModelError
        If the network is another one than γ-PhysNet, or was trained for another camera.
    """
    own = telescope.camera.pix_x_m, telescope.camera.pix_y_m
    if camera is not None:
        _check_same_pixels(np.column_stack(camera), np.column_stack(own))
    try:
        lattice = CameraLattice.from_positions(*(camera or own))
    except LatticeError as error:
        raise ImportedModelError(f"the camera has no lattice: {error}") from None
    doubts = {"warnings of the import": settings.doubts} if settings.doubts else {}
    classes, order = _gamma_first(settings.classes)
    config = describe_network(weights, classes)
    converted = convert_weights(weights, config, lattice, telescope.camera, order)
    network = NetworkCard(
        telescope=telescope,
        network=config,
        input=InputCard(missing_pixels="separate"),
        targets={task: _meaning(task) for task in config.tasks},
        training=settings.record | record | doubts,
        members=(MemberCard(seed=0, training={"seed": "not known"}),),
    )
    card = ModelCard(
        note="Trained with gammalearn and imported.",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        software={"gammalearn": str(settings.record.get("gammalearn", "unknown"))},
        networks=(network,),
    )
    return Model(card, ((converted,),))


def _check_same_pixels(training, own):
    """Check that two cameras have the same pixels, in any order."""
    problem = f"it has {len(training)} pixels instead of {len(own)}"
    if len(training) == len(own) and np.isfinite([training, own]).all():
        tree = KDTree(own)
        pitch = np.median(tree.query(own, k=2)[0][:, 1])
        distance, pixel = tree.query(training)
        problem = (
            f"its pixels lie up to {1000 * distance.max():.1f} mm from those of the "
            "telescope"
        )
        if distance.max() <= POSITION_TOLERANCE * pitch and len({*pixel}) == len(own):
            return
    raise ImportedModelError(f"the camera of the training is another one: {problem}")


def _gamma_first(classes):
    """Classes with the gamma first, and their numbers."""
    order = sorted(range(len(classes)), key=lambda i: classes[i] != "gamma")
    return tuple(classes[i] for i in order), order


def _meaning(task):
    """The meaning of gammalearn's output: another program's one, if there is one."""
    return next(iter(TASKS[task].other_targets), TASKS[task].meaning)
