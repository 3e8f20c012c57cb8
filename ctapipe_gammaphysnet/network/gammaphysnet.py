"""γ-PhysNet: one network for all properties of a shower."""

import torch
from torch import nn

from ..tasks import TASKS
from ..tasks.conditions import count_columns
from .config import NetworkConfig
from .lattice import CameraLattice
from .resnet import ResNet

__all__ = ["GammaPhysNet", "parameter_shapes"]


class GammaPhysNet(nn.Module):
    """γ-PhysNet and, with attention, γ-PhysNet DA (paper, Section 3.1 and Fig. 2).

    A residual network feeds two paths. The global one averages over the camera and
    regresses the energy, to which the light of the whole image is roughly proportional.
    The local one keeps the position of each feature, and with it the shape, position
    and orientation of the shower: for the type, and through a hidden layer for the
    geometry, which is the direction and the impact point. A task says which is its.
    With conditions, such as the zenith angle, they are further inputs of each path.

    Beyond the paper, with ``errors``, a second head for each regression predicts the
    scale of its error from the same input.

    Parameters
    ----------
    config : NetworkConfig
        Depth, widths, attention, tasks, classes and conditions.
    lattice : CameraLattice
        Where the camera's pixels lie, with the camera's order of pixels.
    engine : {"lattice", "indexed"}
        How convolutions are computed. The weights are the same.
    """

    def __init__(
        self, config: NetworkConfig, lattice: CameraLattice, engine: str = "lattice"
    ):
        super().__init__()
        order = torch.from_numpy(lattice.order)
        self.register_buffer("order", order, persistent=False)
        self.backbone = ResNet(config, lattice, engine)

        self.n_conditions = count_columns(config.conditions)
        channels, hidden = self.backbone.out_channels, config.hidden
        local_features = channels * len(self.backbone.lattice)
        self.heads, self.scales = nn.ModuleDict(), nn.ModuleDict()
        self.geometry = None

        def head(path, n_outputs):
            if path == "global":
                return nn.Sequential(
                    self._first(channels, hidden),
                    nn.ReLU(),
                    nn.Linear(hidden, n_outputs),
                )
            if path == "geometry":
                return nn.Linear(hidden, n_outputs)
            return self._first(local_features, n_outputs)

        tasks = _in_order(config.tasks)
        for task in tasks:
            if task.path == "geometry":
                self.geometry = self.geometry or nn.Sequential(
                    self._first(local_features, hidden), nn.ReLU()
                )
            self.heads[task.name] = head(task.path, task.n_outputs(config.classes))
        # Last, so that all other weights are those of a network without errors.
        for task in tasks:
            if config.errors and task.n_scales:
                self.scales[task.name] = _starting_at_0(head(task.path, task.n_scales))

    def _first(self, n_features, n_outputs):
        """First layer of a path: of features, and of the conditions after them.

        Weights of the conditions start at 0, and are not drawn: from the same seed, the
        network starts as the one without conditions.
        """
        layer = nn.Linear(n_features, n_outputs)
        if self.n_conditions > 0:
            weight = layer.weight.detach()
            added = weight.new_zeros(n_outputs, self.n_conditions)
            layer.weight = nn.Parameter(torch.cat([weight, added], dim=1))
            layer.in_features += self.n_conditions
        return layer

    @property
    def stem_neighbors(self) -> torch.Tensor:
        """Pixels at each tap of the first convolution, in the camera's order."""
        neighbors = self.backbone.stem[0].neighbors
        return self.order[neighbors].where(neighbors >= 0, -1)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Feature maps at the end of the backbone.

        Parameters
        ----------
        images : torch.Tensor
            Charge and peak time, shape (batch, 2, n_pixels), pixels in the camera's
            order.

        Returns
        -------
        torch.Tensor
            Shape (batch, channels, positions).

        Raises
        ------
        ValueError
            If images have another shape.
        """
        # More pixels than the camera has would be left out in silence.
        if images.shape[1:] != (2, len(self.order)):
            raise ValueError(
                f"images must have the shape (any, 2, {len(self.order)}), got "
                f"{tuple(images.shape)}"
            )
        return self.backbone(images[..., self.order])

    def forward(
        self, images: torch.Tensor, conditions: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Predict all tasks.

        Parameters
        ----------
        images : torch.Tensor
            As for `features`.
        conditions : torch.Tensor, optional
            As for `predict`.

        Returns
        -------
        dict of str to torch.Tensor
            For each task, shape (batch, n_outputs): logits for the class, and for the
            others what their ``to_target`` makes (`ctapipe_gammaphysnet.tasks`). With
            errors, these are followed by the ``n_scales`` numbers of `tasks.scale`.
        """
        return self.predict(self.features(images), conditions)

    def predict(
        self, features: torch.Tensor, conditions: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Predict all tasks from the feature maps.

        Parameters
        ----------
        features : torch.Tensor
            Shape (batch, channels, positions), as `features` gives them.
        conditions : torch.Tensor, optional
            The network's conditions, as `tasks.conditions.as_columns` makes them, shape
            (batch, n_conditions). Needed if it has any.

        Returns
        -------
        dict of str to torch.Tensor
            As `forward` does.

        Raises
        ------
        ValueError
            If the network has conditions that are not given, or of another shape.
        """
        self._check_conditions(features, conditions)
        mean = features.mean(dim=2)
        flat = features.flatten(1)
        if self.n_conditions > 0:
            mean, flat = (torch.cat([x, conditions], dim=1) for x in (mean, flat))
        geometry = None if self.geometry is None else self.geometry(flat)
        inputs = {"global": mean, "geometry": geometry, "local": flat}
        outputs = {}
        for task, head in self.heads.items():
            of_path = inputs[TASKS[task].path]
            outputs[task] = head(of_path)
            if task in self.scales:
                parts = [outputs[task], self.scales[task](of_path)]
                outputs[task] = torch.cat(parts, dim=1)
        return outputs

    def _check_conditions(self, features, conditions):
        if conditions is None and self.n_conditions == 0:
            return
        expected = (len(features), self.n_conditions)
        if conditions is None or conditions.shape != expected:
            got = "none" if conditions is None else tuple(conditions.shape)
            raise ValueError(f"conditions must have the shape {expected}, got {got}")


def _starting_at_0(head):
    """Set the last weights to 0: all errors start at the scale 1, the paper's loss."""
    last = head[-1] if isinstance(head, nn.Sequential) else head
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return head


def _in_order(names):
    """Tasks in the order in which their first weights are drawn.

    It must not change: with another order, seeds would give other weights.
    """
    paths = ["global", "geometry", "local"]
    tasks = [task for name, task in reversed(TASKS.items()) if name in names]
    return sorted(tasks, key=lambda task: paths.index(task.path))


def parameter_shapes(config: NetworkConfig, camera) -> dict[str, tuple[int, ...]]:
    """Find the shapes of a network's weights without building it in memory.

    Parameters
    ----------
    config : NetworkConfig
        The network's hyperparameters.
    camera : CameraCard
        The camera: pixel positions ``pix_x_m``, ``pix_y_m``.

    Returns
    -------
    dict of str to tuple of int
        Shape of each tensor of the network's state dict.

    Raises
    ------
    LatticeError
        If the camera's pixels lie on no lattice.
    """
    lattice = CameraLattice.from_positions(camera.pix_x_m, camera.pix_y_m)
    with torch.device("meta"):
        network = GammaPhysNet(config, lattice)
    return {name: tuple(w.shape) for name, w in network.state_dict().items()}
