"""Hardware of a training: devices, nodes, processes."""

import contextlib
import logging
import warnings
from dataclasses import dataclass

from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.utilities import rank_zero_only

from ..model.predictor import DeviceError, check_engine, select_device

__all__ = ["Hardware", "check_environment", "choose_hardware", "quiet_lightning"]


@dataclass(frozen=True)
class Hardware:
    """Where and how to compute.

    Attributes
    ----------
    accelerator : str
        ``"cpu"`` or ``"gpu"``.
    devices : int or list of int
        Number of devices on each node, or their numbers.
    nodes : int
        Number of nodes.
    precision : {"float32", "bfloat16"}
        Precision of the convolutions.
    """

    accelerator: str = "cpu"
    devices: int | list[int] = 1
    nodes: int = 1
    precision: str = "float32"

    @property
    def devices_per_node(self):
        """Number of devices on each node."""
        return self.devices if isinstance(self.devices, int) else len(self.devices)

    @property
    def n_processes(self):
        """Number of processes that split each batch."""
        return self.devices_per_node * self.nodes


def choose_hardware(device, devices, nodes, precision):
    """Choose where to compute.

    Parameters
    ----------
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"``.
    devices : int
        Number of devices on each node.
    nodes : int
        Number of nodes.
    precision : {"float32", "bfloat16"}
        Precision of the convolutions.

    Returns
    -------
    Hardware
        The hardware.

    Raises
    ------
    DeviceError
        If the device does not exist, or several devices are wanted, but one is named.
    """
    chosen = select_device(device)
    if chosen.index is not None and devices > 1:
        raise DeviceError(
            f"--device {device} is a single device, but --devices is {devices}: leave "
            "out its number"
        )
    check_engine("lattice", chosen)
    return Hardware(
        accelerator="gpu" if chosen.type == "cuda" else "cpu",
        devices=devices if chosen.index is None else [chosen.index],
        nodes=nodes,
        precision=precision,
    )


def check_environment(hardware):
    """Check that torchrun or Slurm started the processes that split batches.

    A single process trains alone, whatever other processes were started.

    Parameters
    ----------
    hardware : Hardware
        Where to compute.

    Returns
    -------
    int
        Number of this process among those that split batches.

    Raises
    ------
    DeviceError
        If another number of processes was started; the message says how many.
    """
    if hardware.n_processes == 1:
        # Slurm may number its tasks, but each of them trains its own member.
        LightningEnvironment().set_global_rank(0)
        return 0
    with quiet_lightning():
        for environment in (TorchElasticEnvironment, SLURMEnvironment):
            if not environment.detect():
                continue
            try:
                environment().validate_settings(
                    hardware.devices_per_node, hardware.nodes
                )
            except RuntimeError as error:
                raise DeviceError(str(error)) from error
            break
    return rank_zero_only.rank or 0


@contextlib.contextmanager
def quiet_lightning():
    """Silence Lightning's messages about devices, advertisements and wrong hints.

    Yields
    ------
    None
        Nothing.
    """
    # The tool has its own log.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Hints that do not apply: the streams load images in their own threads, and
        # there may be no validation data.
        warnings.simplefilter("ignore", PossibleUserWarning)
        # From Lightning 2.6 with newer PyTorch; users cannot act on it.
        warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
        yield
