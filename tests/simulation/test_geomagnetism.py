import math

import numpy as np
import pytest

from ctapipe_gammaphysnet.simulation.geomagnetism import bend

DOWN, NORTH, WEST, UP = (
    (0.0, 0.0, -1.0),
    (1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, 0.0, 1.0),
)


def field(direction, microtesla):
    return tuple(microtesla * component for component in direction)


def test_a_positive_charge_from_above_goes_east_where_the_field_points_north():
    x, y, _ = bend(DOWN, DOWN, field(NORTH, 30.0), 1, 1.0, 100.0)
    assert y < 0
    assert x == 0


def test_the_radius_is_momentum_over_charge_and_field():
    # p = 0.3 B R, in GeV, T and m
    angle = math.acos(-bend(DOWN, DOWN, field(WEST, 40.0), -1, 2.0, 500.0)[2])
    assert angle == pytest.approx(500 / (2.0 / (0.299792458 * 40e-6)), rel=1e-4)


def test_along_the_field_nothing_bends():
    assert bend(DOWN, DOWN, field(UP, 40.0), 1, 0.1, 1000.0) == DOWN


def test_opposite_charges_part_evenly():
    plus, minus = (bend(DOWN, DOWN, (20.0, 5.0, -30.0), q, 1.0, 300.0) for q in (1, -1))
    np.testing.assert_allclose(np.add(plus, minus)[:2], 0, atol=1e-15)
    assert plus[0] != 0
