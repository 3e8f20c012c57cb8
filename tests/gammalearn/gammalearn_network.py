"""γ-PhysNet with the names of gammalearn, from IndexedConv's own layers."""

import numpy as np
import torch
from indexedconv.engine import IndexedConv
from indexedconv.utils import neighbours_extraction, pool_index_matrix
from torch import nn

RADIUS = 6
#: Of the index matrix.
SIZE = 16


def axial_coordinates():
    """Row and column of each pixel of a hexagonal camera, shape (n, 2)."""
    row, col = np.mgrid[: 2 * RADIUS + 1, : 2 * RADIUS + 1].reshape(2, -1)
    inside = np.abs(row - col) <= RADIUS
    return np.column_stack([row, col])[inside]


def positions(coordinates):
    """Position of each pixel, with axes that enclose 120°, shape (2, n)."""
    row, col = coordinates.T
    return np.array([col - row / 2, row * np.sqrt(3) / 2]) - [[RADIUS / 2], [RADIUS]]


def index_matrix(coordinates):
    """Number of the pixel at each row and column, -1 for none."""
    # Halved twice: an odd matrix would lose its last row and column.
    matrix = torch.full((1, 1, SIZE, SIZE), -1.0)
    matrix[0, 0, *coordinates.T] = torch.arange(len(coordinates), dtype=torch.float)
    return matrix


def _before(part, name, channels):
    """Batch normalisation and ReLU before a convolution."""
    part.add_module(f"BatchNorm1d{name}", nn.BatchNorm1d(channels))
    part.add_module(f"ReLU{name}", nn.ReLU())


class Layer(nn.Module):
    """A residual block."""

    def __init__(self, inputs, outputs, matrix, down, first):
        super().__init__()
        self.pooled = pool_index_matrix(matrix) if down else matrix
        entering = neighbours_extraction(matrix, stride=2 if down else 1)
        self.shortcut, self.conv_block = nn.Sequential(), nn.Sequential()
        if down:
            _before(self.shortcut, "_shortcut", inputs)
            self.shortcut.add_module(
                "cv_shortcut", IndexedConv(inputs, outputs, entering)
            )
        if not first:
            _before(self.conv_block, "1", inputs)
        self.conv_block.add_module("cv1", IndexedConv(inputs, outputs, entering))
        _before(self.conv_block, "2", outputs)
        inner = neighbours_extraction(self.pooled)
        self.conv_block.add_module("cv2", IndexedConv(outputs, outputs, inner))

    def forward(self, x):
        """Add the shortcut."""
        return self.conv_block(x) + self.shortcut(x)


class Attention(nn.Module):
    """Dual attention."""

    def __init__(self, n, ratio):
        super().__init__()
        self.se_module, self.spa_module = nn.Module(), nn.Module()
        self.se_module.reduction = nn.Linear(n, n // ratio)
        self.se_module.expand = nn.Linear(n // ratio, n)
        self.spa_module.down = nn.Conv1d(n, n // 2, 1, bias=False)
        self.spa_module.bn = nn.BatchNorm1d(n // 2)
        self.spa_module.phi = nn.Conv1d(n // 2, 1, 1)

    def forward(self, x):
        """Weigh channels and pixels."""
        hidden = torch.relu(self.se_module.reduction(x.mean(2)))
        channels = torch.sigmoid(self.se_module.expand(hidden))[..., None]
        hidden = torch.relu(self.spa_module.bn(self.spa_module.down(x)))
        return x * channels * (torch.sigmoid(self.spa_module.phi(hidden)) + 1)


class Network(nn.Module):
    """γ-PhysNet with random weights and statistics."""

    def __init__(self, coordinates, blocks, channels, hidden, ratio=None, classes=2):
        super().__init__()
        matrix = index_matrix(coordinates)
        backbone = nn.Sequential()
        stem = neighbours_extraction(matrix, kernel_type="Hex")
        backbone.add_module("cv0", IndexedConv(2, channels[0], stem))
        backbone.add_module("ReLU0", nn.ReLU())
        matrix = pool_index_matrix(matrix, stride=1, kernel_type="Hex")
        inputs = channels[0]
        for stage, width in enumerate(channels):
            for block in range(1, blocks + 1):
                down = stage > 0 and block == 1
                layer = Layer(inputs, width, matrix, down, stage == 0 and block == 1)
                backbone.add_module(f"block{stage}_layer{block}", layer)
                inputs, matrix = width, layer.pooled
            if ratio is not None:
                attention = Attention(width, ratio)
                backbone.add_module(f"attention_block{stage}", attention)
        backbone.add_module("ReLU_last", nn.ReLU())
        self.feature = nn.Module()
        self.feature.feature = backbone
        local = width * int((matrix >= 0).sum())
        self.energy = nn.Sequential()
        self.energy.add_module("en_layer1", nn.Linear(width, hidden))
        self.energy.add_module("ReLU1", nn.ReLU())
        self.energy.add_module("en_out", nn.Linear(hidden, 1))
        self.fusion = nn.Linear(local, hidden)
        self.impact, self.direction = nn.Linear(hidden, 2), nn.Linear(hidden, 2)
        self.classifier = nn.Linear(local, classes)
        self._randomise()

    def _randomise(self):
        for name, values in self.state_dict().items():
            if name.endswith("running_mean"):
                values.normal_()
            elif name.endswith("running_var"):
                values.uniform_(0.5, 2)

    def forward(self, x):
        """Predict all tasks."""
        features = self.feature.feature(x)
        flat = features.flatten(1)
        geometry = torch.relu(self.fusion(flat))
        return {
            "energy": self.energy(features.mean(2)),
            "impact": self.impact(geometry),
            "direction": self.direction(geometry),
            "class": self.classifier(flat),
        }
