"""Networks and images to compare ways of computing with."""

import torch
from torch import nn

from ctapipe_gammaphysnet.network.gammaphysnet import GammaPhysNet


def images_of(n_images, lattice, dtype=torch.float32, device="cpu"):
    return 5 * torch.rand(n_images, 2, len(lattice), dtype=dtype, device=device)


def trained(config, lattice, dtype=torch.float32, device="cpu"):
    """A network whose normalisations are not the identity, as after training."""
    network = GammaPhysNet(config, lattice).to(device, dtype)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = 1
    with torch.no_grad():
        network(images_of(4, lattice, dtype, device))
    return network.eval()
