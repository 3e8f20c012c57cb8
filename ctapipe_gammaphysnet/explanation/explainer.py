"""Explain what the members of one network make of images: arrays in, maps out."""

from dataclasses import dataclass

import numpy as np
import torch

from ..network.lattice import CameraLattice
from .attention_maps import recorded_attention
from .heatmaps import grad_cam, last_block, outputs_of
from .upsampling import upsampling_matrix

__all__ = ["Explainer", "Maps"]

#: Name of the Hadamard product of the attention maps of all stages.
PRODUCT = "product"


@dataclass(frozen=True, eq=False)
class Maps:
    """Predictions of the members of a network, and what they looked at.

    Attributes
    ----------
    predictions : dict of str to numpy.ndarray
        As `Predictor` gives them, shape (n_members, n, n_outputs).
    heatmaps : dict of str to numpy.ndarray
        For each of the network's `OUTPUTS` its heatmaps on the camera's pixels, in the
        output's unit, shape (n_members, n, n_pixels), float32.
    attention : dict of str to numpy.ndarray
        Map of each stage (``stage_1``, ...) in [1, 2] and their ``product``, of the
        same shape; empty without attention.
    """

    predictions: dict
    heatmaps: dict
    attention: dict

    def of(self, rows):
        """Select images.

        Parameters
        ----------
        rows : slice or numpy.ndarray
            Which.

        Returns
        -------
        Maps
            Those of these images.
        """
        return Maps(
            *(
                {name: values[:, rows] for name, values in part.items()}
                for part in (self.predictions, self.heatmaps, self.attention)
            )
        )


class Explainer:
    """Makes the maps of the members of one network.

    Parameters
    ----------
    card : NetworkCard
        What the model card says of the network.
    predictor : Predictor
        Its members.
    upsampling : {"cell", "linear"}
        How coarse maps come back to camera pixels: see `upsampling_matrix`.
    """

    def __init__(self, card, predictor, upsampling="cell"):
        self.card = card
        self.predictor = predictor
        #: Names of the outputs.
        self.outputs = outputs_of(card.network.tasks)
        camera = card.telescope.camera
        lattice = CameraLattice.from_positions(camera.pix_x_m, camera.pix_y_m)
        #: For each stage the matrix that takes its maps to the camera's pixels.
        self._to_pixels = [
            torch.from_numpy(upsampling_matrix(lattice, stage, upsampling).T).to(
                predictor.device
            )
            for stage in range(len(card.network.channels))
        ]

    def __call__(self, inputs):
        """Explain images.

        Parameters
        ----------
        inputs : numpy.ndarray
            What the predictor prepares of them, shape (n, 2, n_pixels), float32.

        Returns
        -------
        Maps
            Predictions, heatmaps and attention maps of all members.
        """
        size = self.predictor.batch_size
        batches = np.array_split(inputs, range(size, len(inputs), size))
        members = [
            _join([self._explain(network, batch) for batch in batches])
            for network in self.predictor.members
        ]
        return Maps(*({k: np.stack([m[i][k] for m in members]) for k in members[0][i]} for i in range(3)))

    def _explain(self, network, batch):
        """Predictions, heatmaps and attention of one member."""
        entering = []
        handle = last_block(network).register_forward_pre_hook(
            lambda module, inputs: entering.append(inputs[0])
        )
        images = torch.from_numpy(batch).to(self.predictor.device)
        try:
            with (
                torch.no_grad(),
                self.predictor.arithmetic,
                recorded_attention(network) as stages,
            ):
                features = network.features(images)
        finally:
            handle.remove()
        with self.predictor.arithmetic:
            heatmaps = grad_cam(network, entering[0], self.outputs)
        predictions = self.predictor.finish(network, features)
        heatmaps = heatmaps @ self._to_pixels[-1]
        attention = {
            f"stage_{number}": _to_numpy(values @ matrix)
            for number, (values, matrix) in enumerate(
                zip(stages, self._to_pixels, strict=False), 1
            )
        }
        if attention:
            attention[PRODUCT] = np.prod(list(attention.values()), axis=0)
        named = dict(zip(self.outputs, map(_to_numpy, heatmaps), strict=True))
        return predictions, named, attention


def _join(batches):
    """Join batches of several dicts."""
    return [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*batches, strict=True)
    ]


def _to_numpy(tensor):
    return tensor.cpu().numpy()
