"""Explain the predictions of a network's members: arrays in, maps out."""

from dataclasses import dataclass

import numpy as np
import torch

from ..network.lattice import CameraLattice
from .attention_maps import recorded_attention
from .heatmaps import grad_cam, last_block, outputs_of
from .upsampling import upsampling_matrix

__all__ = ["PRODUCT", "Explainer", "Maps"]

#: Name of the Hadamard product of the attention maps of all stages.
PRODUCT = "product"


@dataclass(frozen=True, eq=False)
class Maps:
    """Predictions of the members of a network, and what they looked at.

    Attributes
    ----------
    predictions : dict of str to numpy.ndarray
        As `Predictor` returns them, shape (n_members, n, n_outputs).
    heatmaps : dict of str to numpy.ndarray
        For each of the network's outputs its heatmaps on the camera's pixels, in the
        output's unit, shape (n_members, n, n_pixels), float32.
    attention : dict of str to numpy.ndarray
        Map of each stage (``stage_1``, ...) in [1, 2] and their ``product``, of the
        same shape; empty without attention.
    """

    predictions: dict
    heatmaps: dict
    attention: dict

    @property
    def empty(self):
        """Outputs whose heatmaps are 0 everywhere, of all members and images."""
        return [name for name, maps in self.heatmaps.items() if not maps.any()]

    def of(self, rows):
        """Select images.

        Parameters
        ----------
        rows : slice or numpy.ndarray
            Their rows.

        Returns
        -------
        Maps
            The maps of these images.
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
        The network's card.
    predictor : Predictor
        Its members.
    upsampling : {"cell", "linear"}
        How coarse maps become maps of camera pixels: see `upsampling_matrix`.
    order : numpy.ndarray or slice
        Index of the images' pixels that puts them in the order of the network's, shape
        (n_pixels,), int. Maps are in the order of the images.

    Attributes
    ----------
    prepare : InputPreparation
        Makes the network's input of images.
    """

    def __init__(self, card, predictor, upsampling="cell", order=slice(None)):
        self.card = card
        self.predictor = predictor
        self.prepare = predictor.prepare.reordered(order)
        #: Names of the outputs.
        self.outputs = outputs_of(card.network.tasks)
        camera = card.telescope.camera
        lattice = CameraLattice.from_positions(camera.pix_x_m, camera.pix_y_m)
        back = np.argsort(np.arange(len(lattice))[order])
        #: For each stage the matrix that takes its maps to the images' pixels.
        self._to_pixels = [
            torch.from_numpy(upsampling_matrix(lattice, stage, upsampling)[back].T).to(
                predictor.device
            )
            for stage in range(len(card.network.channels))
        ]

    def explain(self, batch):
        """Explain the images of a batch, all at once.

        Parameters
        ----------
        batch : Batch
            The images.

        Returns
        -------
        Maps
            Predictions, heatmaps and attention maps of all members.
        """
        return self(*self.inputs_of(batch))

    def inputs_of(self, batch):
        """Prepare the images of a batch.

        Parameters
        ----------
        batch : Batch
            The images.

        Returns
        -------
        inputs, conditions : numpy.ndarray
            What the predictor needs.
        """
        inputs, _, background = self.prepare.with_background(*batch.arrays)
        pointing = batch.events["pointing_alt"], batch.events["pointing_az"]
        return inputs, self.predictor.conditions(*pointing, background.noise_pe)

    def __call__(self, inputs, conditions=None):
        """Explain images that the predictor has prepared, as in `explain`."""
        images = torch.from_numpy(inputs).to(self.predictor.device)
        members = [
            self._explain(network, images, conditions)
            for network in self.predictor.members
        ]
        return Maps(*map(_stack, zip(*members, strict=True)))

    def _explain(self, network, images, conditions):
        """Predictions, heatmaps and attention maps of one member."""
        entering = []
        handle = last_block(network).register_forward_pre_hook(
            lambda module, inputs: entering.append(inputs[0])
        )
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
            heatmaps = grad_cam(network, entering[0], self.outputs, conditions)
        named = zip(self.outputs, heatmaps @ self._to_pixels[-1], strict=True)
        attention = {
            f"stage_{number}": values @ self._to_pixels[number - 1]
            for number, values in enumerate(stages, 1)
        }
        if attention:
            attention[PRODUCT] = torch.stack(list(attention.values())).prod(dim=0)
        return (
            self.predictor.finish(network, features, conditions),
            {name: values.cpu().numpy() for name, values in named},
            {name: values.cpu().numpy() for name, values in attention.items()},
        )


def _stack(members):
    """Join the arrays of members."""
    return {name: np.stack([m[name] for m in members]) for name in members[0]}
