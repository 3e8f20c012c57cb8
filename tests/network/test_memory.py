"""Compiled code touches nothing but its arrays, and gets none that would make it."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_sample as toy

from ctapipe_gammaphysnet.network import CameraLattice, GammaPhysNet, NetworkConfig
from ctapipe_gammaphysnet.network.checks import check_array, check_table
from ctapipe_gammaphysnet.network.compiled import (
    Convolution,
    NormalizationReLU,
    NormalizedConvolution,
)
from ctapipe_gammaphysnet.network.convolution import LatticeConvolution
from ctapipe_gammaphysnet.network.inference import InferenceBackbone, _check_arguments

CONFIG = NetworkConfig(blocks=2, channels=(4, 8), hidden=2, attention_ratio=2)


@pytest.fixture(scope="module")
def lattice():
    """Lattice of a camera with 61 pixels."""
    return CameraLattice.from_geometry(toy.hexagonal_camera(4))


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "bfloat16"])
def backbone(request, lattice):
    return InferenceBackbone(GammaPhysNet(CONFIG, lattice).eval(), request.param)


@pytest.mark.parametrize(
    ("program", "status"),
    [("training", 0), ("inference", 0), ("outside", -signal.SIGSEGV)],
)
def test_memory_beside_arrays_is_left_alone(program, status):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = Path(__file__).with_name("guarded.py")
    command = [sys.executable, code, program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert (done.stdout == "done\n") == (status == 0)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4)),
        np.zeros((3, 4, 1), np.float32),
        np.zeros((3, 5), np.float32),
        np.zeros((4, 3), np.float32).T,
        np.zeros((3, 8), np.float32)[:, ::2],
        np.zeros((3, 4), ">f4"),
    ],
    ids=["type", "axes", "length", "transposed", "strided", "byte order"],
)
def test_arrays_are_checked(array):
    for n_rows in (0, 3):
        check_array("this", np.zeros((n_rows, 4), np.float32), (None, 4), np.float32)
    with pytest.raises(ValueError, match=r"^this must have the shape \(any, 4\)"):
        check_array("this", array, (None, 4), np.float32)


@pytest.mark.parametrize(
    "table", [[[0, 7]], [[-2, 0]], [[0]], np.zeros((1, 2), np.int32)]
)
def test_tables_are_checked(table):
    check_table("this", np.array([[-1, 6]]), (1, 2), 7)
    with pytest.raises(ValueError, match="^this must"):
        check_table("this", np.asarray(table), (1, 2), 7)


@pytest.mark.parametrize("n_pixels", [0, 60, 62])
@pytest.mark.parametrize("engine", ["lattice", "indexed"])
def test_images_of_other_cameras_are_refused(lattice, backbone, n_pixels, engine):
    images = torch.zeros(1, 2, n_pixels)
    network = GammaPhysNet(CONFIG, lattice, engine)
    with pytest.raises(ValueError, match=rf"\(any, 2, 61\).* \(1, 2, {n_pixels}\)"):
        network(images)
    with pytest.raises(ValueError, match=rf"\(any, 2, 61\).* \(1, 2, {n_pixels}\)"):
        backbone(images)


@pytest.mark.parametrize(
    "images",
    [torch.zeros(1, 2, 61).double(), torch.zeros(1, 3, 61), torch.zeros(2, 61)],
)
def test_images_of_another_kind_are_refused(backbone, images):
    with pytest.raises(ValueError, match="images must"):
        backbone(images)


def arrays_in(values):
    """Arrays of nested tuples, with a function that puts another one in their place."""
    for i, value in enumerate(values):
        if isinstance(value, np.ndarray):
            yield value, lambda new, i=i: (*values[:i], new, *values[i + 1 :])
        else:
            for array, put in arrays_in(value):
                yield (
                    array,
                    lambda new, i=i, put=put: (*values[:i], put(new), *values[i + 1 :]),
                )


def test_each_array_of_the_backbone_is_checked(backbone, lattice):
    """Another length of any axis, or another number in any table, is noticed."""
    stem, stages, *_ = backbone._arguments
    n_checked = 0
    for array, put in arrays_in((stem, stages)):
        # What a stage does not have is empty.
        if array.size == 0:
            continue
        wrong = [np.repeat(array, 2, axis) for axis in range(array.ndim)]
        if array.dtype == np.int64:
            wrong += [np.where(array == array.max(), n, array) for n in (61, -2)]
        else:
            wrong.append(array.astype(np.float64))
        for other in wrong:
            with pytest.raises(ValueError, match="must have|must be"):
                _check_arguments(*put(other), len(lattice))
            n_checked += 1
    assert _check_arguments(stem, stages, len(lattice)) == backbone._shape
    assert n_checked > 100


@pytest.mark.parametrize(
    ("features", "weight", "bias"),
    [
        ((1, 60, 3), (4, 3, 7), (4,)),
        ((1, 62, 3), (4, 3, 7), (4,)),
        ((1, 61, 4), (4, 3, 7), (4,)),
        ((1, 61, 3), (4, 3, 9), (4,)),
        ((1, 61, 3), (4, 3, 7), (3,)),
    ],
)
def test_features_and_weights_that_do_not_fit_are_refused(
    lattice, features, weight, bias
):
    layer = LatticeConvolution(3, 4, lattice)
    tables = layer.neighbors, layer.targets
    fitting = torch.ones(1, 61, 3), layer.weight, layer.bias
    assert Convolution.apply(*fitting, *tables).shape == (1, 61, 4)
    with pytest.raises(ValueError, match="must have the shape"):
        Convolution.apply(*map(torch.ones, (features, weight, bias)), *tables)
    transposed = torch.ones(1, 3, 61).transpose(1, 2)
    with pytest.raises(ValueError, match="not contiguous"):
        Convolution.apply(transposed, layer.weight, layer.bias, *tables)


def test_what_does_not_fit_a_normalised_convolution_is_refused(lattice):
    layer = LatticeConvolution(3, 4, lattice)
    tables = layer.neighbors, layer.targets

    def compute(x=(1, 61, 3), line=3, weight=(4, 3, 7), bias=4, shortcut=(1, 61, 4)):
        lines = [torch.ones(line)] * 4
        x, weight, bias, shortcut = map(torch.ones, (x, weight, bias, shortcut))
        return NormalizedConvolution.apply(
            x, *lines, math.inf, weight, bias, *tables, shortcut
        )

    y, _ = compute()
    assert y.shape == (1, 61, 4)
    for wrong in (
        {"x": (1, 60, 3)},
        {"x": (1, 62, 3)},
        {"x": (1, 61, 4)},
        {"line": 4},
        {"weight": (4, 3, 9)},
        {"bias": 3},
        {"shortcut": (1, 60, 4)},
        {"shortcut": (1, 61, 5)},
        {"shortcut": (2, 61, 4)},
    ):
        with pytest.raises(ValueError, match="must have the shape"):
            compute(**wrong)


def test_normalisations_that_do_not_fit_are_refused():
    x, line = torch.ones(2, 5, 3), torch.ones(3)
    assert NormalizationReLU.apply(x, *[line] * 4, math.inf).shape == x.shape
    for position in range(4):
        lines = [torch.ones(4) if i == position else line for i in range(4)]
        with pytest.raises(ValueError, match="must have the shape"):
            NormalizationReLU.apply(x, *lines, math.inf)
    with pytest.raises(ValueError, match="not contiguous"):
        NormalizationReLU.apply(x.transpose(0, 1), *[line] * 4, math.inf)
