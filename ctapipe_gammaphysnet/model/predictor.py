"""Run the networks of one telescope type: arrays in, arrays out."""

import contextlib
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import astropy.units as u
import numpy as np
import torch
from ctapipe.core import ToolConfigurationError

from ..events.preparation import InputPreparation
from ..network.checks import check_array
from ..network.gammaphysnet import GammaPhysNet
from ..network.gpu_inference import gpu_backbone
from ..network.inference import InferenceBackbone
from ..network.lattice import CameraLattice
from ..numba_cache import CompilationError, require_compilation
from ..tasks import TASKS
from ..tasks.conditions import as_columns, conditions_of
from ..tasks.frames import radians
from .card import NetworkCard
from .errors import ModelError

__all__ = [
    "DeviceError",
    "Predictor",
    "calling_threads",
    "check_engine",
    "select_device",
    "set_threads",
]

#: Default number of images per forward pass. On a CPU, more are not faster.
BATCH_SIZE = 256
#: The heads may use one more thread for each this many images.
_IMAGES_PER_THREAD = 16
#: PyTorch's threads and settings serve one caller at a time.
_PYTORCH = threading.RLock()


class DeviceError(ToolConfigurationError, ModelError):
    """This machine cannot compute as requested; the message says why."""


def select_device(name: str) -> torch.device:
    """Find the device to compute on.

    Parameters
    ----------
    name : str
        ``"auto"`` for the first GPU if there is one, else the CPU; or ``"cpu"``,
        ``"cuda"``, ``"cuda:1"``.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    DeviceError
        If there is no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", name):
        raise DeviceError(
            f"device {name!r} is not known: use 'cpu', 'cuda', 'cuda:1', or 'auto' to "
            "use a GPU only if there is one"
        )
    # PyTorch's device numbers wrap around after 127.
    number = int(name.partition(":")[2] or 0)
    if name != "cpu" and number >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name!r} is not on this machine: PyTorch {torch.__version__} "
            f"sees {torch.cuda.device_count()} CUDA devices. Use device 'cpu', or "
            "'auto' to use a GPU only if there is one."
        )
    return torch.device(name)


def check_engine(engine: str, device: torch.device) -> None:
    """Check that an engine can compute on a device.

    Parameters
    ----------
    engine : {"lattice", "indexed"}
        How convolutions are computed.
    device : torch.device
        The device.

    Raises
    ------
    DeviceError
        If the engine needs compiled code, and ``NUMBA_DISABLE_JIT`` is set.
    """
    if (device.type, engine) != ("cpu", "lattice"):
        return
    try:
        require_compilation(
            "the engine 'lattice' on a CPU",
            ", or, in ctapipe-process and ctapipe-apply-gammaphysnet, use the engine "
            "'indexed' (GammaPhysNetReconstructor.engine, --engine indexed)",
        )
    except CompilationError as error:
        raise DeviceError(str(error)) from error


def set_threads(n_jobs: int | None) -> None:
    """Set the number of PyTorch's threads in the whole process.

    Parameters
    ----------
    n_jobs : int or None
        Number of threads; with None PyTorch decides: one per core.

    Raises
    ------
    DeviceError
        If it is not positive.
    """
    if n_jobs is None:
        return
    if n_jobs < 1:
        raise DeviceError(
            f"n_jobs must be at least 1, got {n_jobs}: leave it out for all cores"
        )
    torch.set_num_threads(n_jobs)


def calling_threads(n: int) -> ThreadPoolExecutor:
    """Make threads that can call a predictor at the same time.

    Parameters
    ----------
    n : int
        Number of threads. They share PyTorch's own threads.

    Returns
    -------
    concurrent.futures.ThreadPoolExecutor
        The threads.
    """
    # A new thread would start with PyTorch's current number of threads, which may be
    # the one for the heads of few images.
    return ThreadPoolExecutor(
        n, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)
    )


@contextlib.contextmanager
def _few_threads(n_images):
    """Limit PyTorch's threads to what the heads of some images need.

    The threads wait for each other in a loop. If another program takes the core of one
    of them, this costs ten milliseconds; the heads of an image take half a millisecond.
    """
    with _PYTORCH:
        before = torch.get_num_threads()
        torch.set_num_threads(min(before, 1 + n_images // _IMAGES_PER_THREAD))
        try:
            yield
        finally:
            torch.set_num_threads(before)


class Predictor:
    """The members of one network, ready to predict, for several threads at once.

    Parameters
    ----------
    card : NetworkCard
        The network: camera, architecture, members.
    weights : sequence of dict of str to numpy.ndarray
        The weights of each member.
    device : torch.device
        Where to compute.
    precision : {"float32", "bfloat16"}
        Precision of the backbone. The heads always compute in float32.
    engine : {"lattice", "indexed"}
        How convolutions are computed.
    batch_size : int
        Images per forward pass.

    Attributes
    ----------
    prepare : InputPreparation
        Makes the input from images, as the card says.
    needs_noise : bool
        Whether the noise of the images is one of the network's conditions.
    members : list of GammaPhysNet
        The networks. Changes to their weights do not change the predictions.

    Raises
    ------
    DeviceError
        If the engine cannot compute on the device: see `check_engine`.
    """

    def __init__(
        self,
        card: NetworkCard,
        weights: Sequence[Mapping[str, np.ndarray]],
        device: str | torch.device = "cpu",
        precision: str = "float32",
        engine: str = "lattice",
        batch_size: int = BATCH_SIZE,
    ):
        self.device = torch.device(device)
        check_engine(engine, self.device)
        self.precision = precision
        self.batch_size = batch_size
        camera = card.telescope.camera
        lattice = CameraLattice.from_positions(camera.pix_x_m, camera.pix_y_m)
        self.prepare = InputPreparation(card.input, lattice)
        self._n_pixels = len(lattice)
        self.needs_noise = card.network.needs_noise
        self._conditions = card.network.conditions
        self._field_ut = card.geomagnetic_field_ut
        self.members = [
            self._load_member(card, lattice, member, engine) for member in weights
        ]
        self._calibrations = {
            member: member_card.calibration
            for member, member_card in zip(self.members, card.members, strict=True)
        }
        self._features = [self._backbone(member, engine) for member in self.members]

    def _load_member(self, card, lattice, weights, engine):
        network = GammaPhysNet(card.network, lattice, engine)
        network.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
        return network.eval().to(self.device)

    def _backbone(self, network, engine):
        """Return the function that computes the feature maps of a member."""
        if (self.device.type, engine) == ("cpu", "lattice"):
            return InferenceBackbone(network, self.precision == "bfloat16")
        compute = None
        if engine == "lattice":
            compute = gpu_backbone(network, self.precision == "bfloat16")
        compute = compute or network.features

        def features(images):
            with _PYTORCH, self.arithmetic:
                return compute(images.to(self.device))

        return features

    @property
    def arithmetic(self):
        """Context in which the backbone computes with the requested precision."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        if self.device.type == "cuda":
            # By default, convolutions would round float32 to TensorFloat-32.
            return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        return contextlib.nullcontext()

    def conditions(
        self,
        pointing_alt: u.Quantity,
        pointing_az: u.Quantity,
        noise_pe: np.ndarray | None = None,
    ) -> np.ndarray:
        """Compute the conditions of images, with the geomagnetic field of the training.

        Parameters
        ----------
        pointing_alt, pointing_az : astropy.units.Quantity
            Pointing of the telescope at each image, shape (n,); NaN if not known.
        noise_pe : numpy.ndarray, optional
            Noise of the images' background pixels, as `prepare.with_background`
            measures it, shape (n,); NaN if not known. Needed for the condition noise.

        Returns
        -------
        numpy.ndarray
            The network's conditions, shape (n, n_conditions), float32; NaN where what
            they need is not known. Without conditions, shape (n, 0).

        Raises
        ------
        ValueError
            If the noise is needed and not given.
        """
        found = {}
        if self._conditions:
            if noise_pe is None and self.needs_noise:
                raise ValueError("this network needs the noise of the images")
            angles = radians(pointing_alt), radians(pointing_az)
            found = conditions_of(self._conditions, *angles, self._field_ut, noise_pe)
        return as_columns(found, len(pointing_alt))

    def __call__(
        self, inputs: np.ndarray, conditions: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Predict with all members.

        Parameters
        ----------
        inputs : numpy.ndarray
            Images prepared by `prepare`, shape (n, 2, n_pixels), float32.
        conditions : numpy.ndarray, optional
            What `conditions` returns for them, shape (n, n_conditions), float32. Needed
            if the network has any.

        Returns
        -------
        dict of str to numpy.ndarray
            Predictions of each task, as `Task.finish` makes them, shape (n_members, n,
            n_outputs or more), float64: values, and their errors if the network
            predicts them; for ``"class"`` probabilities that add up to 1.

        Raises
        ------
        ValueError
            If images or conditions have another shape or dtype, or conditions that
            the network needs are missing.
        """
        inputs = np.ascontiguousarray(inputs)
        check_array("inputs", inputs, (None, 2, self._n_pixels), np.float32)
        conditions = self._checked(conditions, len(inputs))
        outputs = []
        # Without images, one empty batch gives the outputs their shapes.
        for start in range(0, max(len(inputs), 1), self.batch_size):
            batch = slice(start, start + self.batch_size)
            outputs.append(
                [
                    self._predict_member(*member, inputs[batch], conditions[batch])
                    for member in zip(self.members, self._features, strict=True)
                ]
            )
        return {
            task: np.concatenate(
                [np.stack([member[task] for member in batch]) for batch in outputs],
                axis=1,
            )
            for task in outputs[0][0]
        }

    def _checked(self, conditions, n):
        """Check the conditions of n images."""
        n_columns = self.members[0].n_conditions
        if conditions is None:
            if n_columns > 0:
                raise ValueError(
                    f"this network needs the conditions {', '.join(self._conditions)}"
                )
            conditions = as_columns({}, n)
        conditions = np.ascontiguousarray(conditions)
        check_array("conditions", conditions, (n, n_columns), np.float32)
        return conditions

    def _predict_member(self, network, features, batch, conditions):
        with torch.inference_mode():
            return self.finish(network, features(torch.from_numpy(batch)), conditions)

    def finish(
        self,
        network: GammaPhysNet,
        features: torch.Tensor,
        conditions: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Compute a member's predictions from its feature maps.

        Parameters
        ----------
        network : GammaPhysNet
            The member.
        features : torch.Tensor
            Its feature maps, shape (n, channels, positions).
        conditions : numpy.ndarray, optional
            As in a call with all members.

        Returns
        -------
        dict of str to numpy.ndarray
            Predictions of each task for this member, as in a call with all members.
        """
        if conditions is not None:
            conditions = torch.from_numpy(conditions).to(features.device)
        with torch.no_grad(), _few_threads(len(features)):
            outputs = network.predict(features.float(), conditions)
            arrays = {t: output.double().cpu().numpy() for t, output in outputs.items()}
        calibration = self._calibrations[network]
        for task, offset in calibration.offsets.items():
            arrays[task][:, :2] -= offset
        return {
            task: TASKS[task].finish(output, calibration.of(task))
            for task, output in arrays.items()
        }
