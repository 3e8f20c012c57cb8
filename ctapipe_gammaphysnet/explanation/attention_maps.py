"""Which pixels spatial attention raises, stage by stage."""

import contextlib

from ..network.attention import SpatialAttention

__all__ = ["recorded_attention"]


@contextlib.contextmanager
def recorded_attention(network):
    """Record the maps of spatial attention while a network computes.

    Parameters
    ----------
    network : GammaPhysNet
        The network.

    Yields
    ------
    list of torch.Tensor
        Once the network has computed, the map of each stage: the factors of its
        pixels, in [1, 2], shape (batch, positions), with the stage's positions. Empty
        if there is no attention.
    """
    maps = []

    def _record(module, inputs, output):
        maps.append(output[:, 0].detach())

    handles = [
        module.register_forward_hook(_record)
        for module in network.modules()
        if isinstance(module, SpatialAttention)
    ]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()
