"""Outputs of networks become DL2: right numbers, units and flags, for array and sky."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, SkyCoord
from ctapipe.containers import (
    ArrayEventContainer,
    HillasParametersContainer,
    ImageParametersContainer,
    ParticleClassificationContainer,
    ReconstructedEnergyContainer,
    ReconstructedGeometryContainer,
    TelescopeImpactParameterContainer,
)
from ctapipe.coordinates import (
    GroundFrame,
    TiltedGroundFrame,
    shower_impact_distance,
)
from ctapipe.reco import StereoMeanCombiner
from ctapipe.reco.reconstructor import ReconstructionProperty
from toy_sample import hexagonal_camera, toy_subarray, toy_telescope
from with_units import impact_from_target, telescope_columns

from ctapipe_gammaphysnet.compat import PARTICLE_TYPE
from ctapipe_gammaphysnet.dl2.columns import invalidate_array, is_error
from ctapipe_gammaphysnet.dl2.containers import (
    CONTAINERS,
    PROPERTIES,
    group_names,
    kinds_of_tasks,
)
from ctapipe_gammaphysnet.dl2.event import (
    fill_invalid,
    fill_telescope,
    invalidate_stereo,
)
from ctapipe_gammaphysnet.dl2.stereo import GammaPhysNetGeometryCombiner
from ctapipe_gammaphysnet.tasks.direction import direction_to_target
from ctapipe_gammaphysnet.tasks.ellipse import containment_radius, matrix_from_widths
from ctapipe_gammaphysnet.tasks.energy import energy_to_target
from ctapipe_gammaphysnet.tasks.impact import impact_to_target

N = 6
POINTING = np.full(N, 70) * u.deg, np.linspace(-3, 3, N) % 360 * u.deg
POSITION = np.random.default_rng(5).uniform(-200, 200, (N, 3)) * u.m
UNITS = {
    "energy": {"energy": u.TeV, "energy_uncert": u.TeV, "is_valid": None},
    "geometry": {
        "alt": u.deg,
        "alt_uncert": u.deg,
        "az": u.deg,
        "az_uncert": u.deg,
        "ang_distance_uncert": u.deg,
        "core_x": u.m,
        "core_y": u.m,
        "core_uncert_x": u.m,
        "core_uncert_y": u.m,
        "core_tilted_x": u.m,
        "core_tilted_y": u.m,
        "core_tilted_uncert_x": u.m,
        "core_tilted_uncert_y": u.m,
        "alt_az_correlation": None,
        "core_correlation": None,
        "is_valid": None,
    },
    PARTICLE_TYPE: {"prediction": None, "is_valid": None},
    "impact": {"distance": u.m, "distance_uncert": u.m},
}


@pytest.fixture
def truth():
    """One shower for each image, from up to 2° beside the pointing."""
    rng = np.random.default_rng(0)
    return {
        "energy": 10 ** rng.uniform(-2, 2, N) * u.TeV,
        "alt": POINTING[0] + rng.uniform(-2, 2, N) * u.deg,
        "az": (POINTING[1] + rng.uniform(-2, 2, N) * u.deg) % (360 * u.deg),
        "core_x": rng.uniform(-300, 300, N) * u.m,
        "core_y": rng.uniform(-300, 300, N) * u.m,
        "gammaness": rng.uniform(0, 1, N),
    }


@pytest.fixture
def perfect(truth):
    """Outputs of a single network that knows the truth."""
    gammaness = truth["gammaness"]
    outputs = {
        "energy": energy_to_target(truth["energy"]),
        "direction": direction_to_target(truth["alt"], truth["az"], *POINTING),
        "impact": impact_to_target(
            truth["core_x"], truth["core_y"], POSITION, *POINTING
        ),
        "class": np.column_stack([gammaness, 1 - gammaness]),
    }
    return {task: output[np.newaxis] for task, output in outputs.items()}


@pytest.fixture
def ensemble(perfect):
    """Outputs of three members around the truth."""
    rng = np.random.default_rng(1)
    outputs = {
        task: output + rng.normal(scale=0.05, size=(3, *output.shape[1:]))
        for task, output in perfect.items()
    }
    return outputs | {"class": rng.dirichlet([1, 1], size=(3, N))}


def member(outputs, number):
    """Columns of one member alone."""
    single = {task: output[number : number + 1] for task, output in outputs.items()}
    return telescope_columns(single, *POINTING, POSITION)


def spread(columns, kind, name):
    """Standard deviation over the columns that each member gives alone."""
    values = u.Quantity([member[kind][name] for member in columns])
    # Two powers of the deviations: not as the implementation may do it.
    deviations = values - values.mean(axis=0)
    return np.sqrt((deviations**2).sum(axis=0) / (len(values) - 1))


def test_kinds_follow_from_the_tasks():
    assert kinds_of_tasks({"energy", "direction", "impact", "class"}) == [
        "energy",
        "geometry",
        PARTICLE_TYPE,
        "impact",
    ]
    assert kinds_of_tasks(("energy", "class")) == ["energy", PARTICLE_TYPE]
    assert kinds_of_tasks(("direction",)) == ["geometry"]
    # An impact point alone is neither a direction nor a distance from an axis.
    assert kinds_of_tasks(("impact",)) == []
    assert kinds_of_tasks(()) == []


def test_groups_are_named_after_the_prefix():
    assert group_names("Other") == {
        "energy": "OtherEnergy",
        "geometry": "OtherGeometry",
        PARTICLE_TYPE: "OtherClassifier",
        "impact": "OtherGeometry",
    }


def test_kinds_are_fields_of_the_containers_of_ctapipe():
    event = ArrayEventContainer()
    assert set(CONTAINERS) <= set(event.dl2.tel[1].fields)
    assert set(PROPERTIES) <= set(event.dl2.stereo.fields)
    for kind, prop in PROPERTIES.items():
        StereoMeanCombiner(prefix="P", property=prop)(event)
        assert set(getattr(event.dl2.stereo, kind)) == {"P"}


def test_a_network_that_knows_the_truth_gives_the_truth(perfect, truth):
    columns = telescope_columns(perfect, *POINTING, POSITION)
    assert list(columns) == ["energy", "geometry", "impact", PARTICLE_TYPE]
    np.testing.assert_allclose(columns["energy"]["energy"], truth["energy"])
    for name in ("alt", "az"):
        np.testing.assert_allclose(
            columns["geometry"][name], truth[name], rtol=0, atol=1e-9 * u.deg
        )
    for name in ("core_x", "core_y"):
        np.testing.assert_allclose(
            columns["geometry"][name], truth[name], rtol=0, atol=1e-8 * u.m
        )
    np.testing.assert_allclose(columns[PARTICLE_TYPE]["prediction"], truth["gammaness"])
    for kind in ("energy", "geometry", PARTICLE_TYPE):
        assert columns[kind]["is_valid"].tolist() == [True] * N


def test_the_tilted_core_is_in_the_frame_of_the_telescope(perfect, truth):
    geometry = telescope_columns(perfect, *POINTING, POSITION)["geometry"]
    for i in range(N):
        frame = TiltedGroundFrame(
            pointing_direction=AltAz(alt=POINTING[0][i], az=POINTING[1][i])
        )
        core = GroundFrame(x=truth["core_x"][i], y=truth["core_y"][i], z=0 * u.m)
        tilted = core.transform_to(frame)
        assert u.isclose(geometry["core_tilted_x"][i], tilted.x)
        assert u.isclose(geometry["core_tilted_y"][i], tilted.y)


def test_the_impact_distance_is_that_of_ctapipe(perfect, truth):
    columns = telescope_columns(perfect, *POINTING, POSITION)
    telescope = toy_telescope(hexagonal_camera(1))
    subarray = toy_subarray([(telescope, xyz) for xyz in POSITION.value])
    for i in range(N):
        shower = ReconstructedGeometryContainer(
            **{name: truth[name][i] for name in ("alt", "az", "core_x", "core_y")}
        )
        distance = shower_impact_distance(shower, subarray)[i]
        assert u.isclose(columns["impact"]["distance"][i], distance)


def test_a_single_member_has_no_uncertainty(perfect, ensemble):
    one, three = (
        {
            (kind, name)
            for kind, container in telescope_columns(o, *POINTING, POSITION).items()
            for name in container
        }
        for o in (perfect, ensemble)
    )
    assert one < three
    assert {name for _, name in three - one} == {
        *("energy_uncert", "distance_uncert", "ang_distance_uncert"),
        *("alt_uncert", "az_uncert", "alt_az_correlation"),
        *(f"core_{n}uncert_{axis}" for n in ("", "tilted_") for axis in "xy"),
        "core_correlation",
    }


@pytest.mark.parametrize("n_members", [1, 3])
def test_columns_are_those_of_the_containers_in_their_units(
    perfect, ensemble, n_members
):
    outputs = perfect if n_members == 1 else ensemble
    columns = telescope_columns(outputs, *POINTING, POSITION)
    units = {
        kind: {
            name: getattr(values, "unit", None) for name, values in container.items()
        }
        for kind, container in columns.items()
    }
    expected = {
        kind: {
            name: unit
            for name, unit in container.items()
            if n_members > 1 or not is_error(name)
        }
        for kind, container in UNITS.items()
    }
    assert units == expected
    for kind, container in columns.items():
        assert set(container) <= set(CONTAINERS[kind][0].fields)
        for values in container.values():
            assert values.shape == (N,)


def test_no_images_give_empty_columns(ensemble):
    nothing = {task: output[:, :0] for task, output in ensemble.items()}
    columns = telescope_columns(nothing, *np.empty((2, 0)) * u.deg, POSITION[:0])
    for kind, names in UNITS.items():
        assert {name: v.shape for name, v in columns[kind].items()} == dict.fromkeys(
            names, (0,)
        )


def test_energies_are_averaged_as_logarithms(ensemble):
    members = 10 ** ensemble["energy"][..., 0] * u.TeV
    columns = telescope_columns(ensemble, *POINTING, POSITION)["energy"]
    geometric_mean = np.prod(members.value, axis=0) ** (1 / 3) * u.TeV
    np.testing.assert_allclose(columns["energy"], geometric_mean)
    # Half of the width from one standard deviation below to one above.
    factor = 10 ** np.log10(members.value).std(axis=0, ddof=1)
    half = columns["energy"] * (factor - 1 / factor) / 2
    np.testing.assert_allclose(columns["energy_uncert"], half)


def test_directions_are_averaged_as_offsets(ensemble):
    geometry = telescope_columns(ensemble, *POINTING, POSITION)["geometry"]
    back = direction_to_target(geometry["alt"], geometry["az"], *POINTING)
    np.testing.assert_allclose(
        back, ensemble["direction"].mean(axis=0), rtol=0, atol=1e-9
    )


def test_impact_points_are_averaged_in_the_tilted_frame(ensemble):
    geometry = telescope_columns(ensemble, *POINTING, POSITION)["geometry"]
    core, tilted = impact_from_target(
        ensemble["impact"].mean(axis=0), POSITION, *POINTING
    )
    for i, axis in enumerate("xy"):
        np.testing.assert_allclose(geometry[f"core_{axis}"], core[:, i])
        np.testing.assert_allclose(geometry[f"core_tilted_{axis}"], tilted[:, i])


def test_spreads_are_those_of_the_physical_quantities_of_the_members(perfect):
    """To first order in the spread."""
    rng = np.random.default_rng(2)
    close = {
        task: output + rng.normal(scale=1e-5, size=(3, *output.shape[1:]))
        for task, output in perfect.items()
        if task != "class"
    }
    columns = telescope_columns(close, *POINTING, POSITION)
    members = [member(close, number) for number in range(3)]
    for kind, name, uncertainty in (
        ("energy", "energy", "energy_uncert"),
        ("geometry", "alt", "alt_uncert"),
        ("geometry", "az", "az_uncert"),
        ("geometry", "core_x", "core_uncert_x"),
        ("geometry", "core_y", "core_uncert_y"),
        ("geometry", "core_tilted_x", "core_tilted_uncert_x"),
        ("geometry", "core_tilted_y", "core_tilted_uncert_y"),
        ("impact", "distance", "distance_uncert"),
    ):
        expected = spread(members, kind, name)
        assert (expected > 0).all()
        # That of the distance leaves out the error of the direction.
        rtol = 0.02 if name == "distance" else 1e-4
        np.testing.assert_allclose(
            columns[kind][uncertainty], expected, rtol=rtol, err_msg=name
        )
    for a, b, name in (
        ("az", "alt", "alt_az_correlation"),
        ("core_x", "core_y", "core_correlation"),
    ):
        pairs = [u.Quantity([m["geometry"][f] for m in members]).value for f in (a, b)]
        expected = [
            np.corrcoef(*pair)[0, 1] for pair in zip(*(p.T for p in pairs), strict=True)
        ]
        np.testing.assert_allclose(columns["geometry"][name], expected, atol=1e-3)


@pytest.mark.parametrize("north", [0, 360])
def test_the_spread_of_azimuths_does_not_see_north(north):
    alt, az = [70, 70] * u.deg, [359.9, 0.1] * u.deg
    pointing = np.array([70]) * u.deg, np.array([north]) * u.deg
    offset = direction_to_target(alt, az, *(angle[0] for angle in pointing))
    outputs = {"direction": offset[:, np.newaxis]}
    geometry = telescope_columns(outputs, *pointing, POSITION[:1])["geometry"]
    assert u.isclose(geometry["az_uncert"][0], np.std([-0.1, 0.1], ddof=1) * u.deg)
    assert u.isclose(np.cos(geometry["az"][0]), 1)
    assert geometry["alt_uncert"][0] < 1e-6 * u.deg


def test_the_spread_of_azimuths_is_the_same_to_the_south():
    alt, az = [70, 70, 70] * u.deg, [179.8, 180.1, 180] * u.deg
    offset = direction_to_target(alt, az, 70 * u.deg, 180 * u.deg)
    geometry = telescope_columns(
        {"direction": offset[:, np.newaxis]}, [70] * u.deg, [180] * u.deg, POSITION[:1]
    )["geometry"]
    assert u.isclose(geometry["az_uncert"][0], np.std(az, ddof=1))
    # On the sky the same azimuths are closer to each other the higher up they are.
    assert u.isclose(
        geometry["ang_distance_uncert"][0],
        np.std(az, ddof=1) * np.cos(np.deg2rad(70)),
        rtol=1e-3,
    )


def test_the_angular_uncertainty_is_the_radius_of_the_ellipse(ensemble):
    geometry = telescope_columns(ensemble, *POINTING, POSITION)["geometry"]
    ellipse = matrix_from_widths(
        geometry["az_uncert"].value * np.cos(geometry["alt"]).value,
        geometry["alt_uncert"].value,
        geometry["alt_az_correlation"],
    )
    radius = geometry["ang_distance_uncert"].value
    np.testing.assert_allclose(radius, containment_radius(ellipse), rtol=1e-6)


def test_the_angular_uncertainty_does_not_depend_on_the_pointing(ensemble):
    """Not even next to the zenith, where azimuths spread over all directions."""
    near_zenith = np.full(N, 89.9) * u.deg
    (low, high) = (
        telescope_columns(ensemble, alt, POINTING[1], POSITION)["geometry"]
        for alt in (POINTING[0], near_zenith)
    )
    np.testing.assert_allclose(low["ang_distance_uncert"], high["ang_distance_uncert"])


def test_pointings_in_single_precision_do_not_round_the_results(ensemble):
    coarse = [angle.astype(np.float32) for angle in POINTING]
    exact = telescope_columns(ensemble, *(a.astype(float) for a in coarse), POSITION)
    columns = telescope_columns(ensemble, *coarse, POSITION)
    for kind, container in exact.items():
        for name, values in container.items():
            np.testing.assert_array_equal(columns[kind][name], values, err_msg=name)


def test_gammaness_is_the_mean_probability_of_the_first_class(ensemble):
    columns = telescope_columns(ensemble, *POINTING, POSITION)[PARTICLE_TYPE]
    expected = sum(ensemble["class"][i, :, 0] for i in range(3)) / 3
    np.testing.assert_allclose(columns["prediction"], expected)


def test_members_may_come_in_any_order(ensemble):
    columns = telescope_columns(ensemble, *POINTING, POSITION)
    shuffled = {task: output[[2, 0, 1]] for task, output in ensemble.items()}
    again = telescope_columns(shuffled, *POINTING, POSITION)
    for kind, container in columns.items():
        for name, values in container.items():
            np.testing.assert_allclose(
                again[kind][name], values, rtol=1e-7, err_msg=name
            )


@pytest.mark.parametrize("tasks", [("energy",), ("direction",), ("class", "direction")])
def test_networks_with_fewer_tasks_give_fewer_columns(ensemble, tasks):
    full = telescope_columns(ensemble, *POINTING, POSITION)
    few = telescope_columns(
        {task: ensemble[task] for task in tasks}, *POINTING, POSITION
    )
    assert set(few) == set(kinds_of_tasks(tasks))
    for kind, container in few.items():
        core = {name for name in container if name.startswith("core")}
        assert not core
        for name, values in container.items():
            np.testing.assert_array_equal(values, full[kind][name])


@pytest.mark.parametrize(
    ("task", "kinds"),
    [
        ("energy", ["energy"]),
        ("direction", ["geometry", "impact"]),
        ("impact", ["geometry", "impact"]),
        ("class", [PARTICLE_TYPE]),
    ],
)
def test_nan_makes_only_what_depends_on_it_invalid(ensemble, task, kinds):
    good = telescope_columns(ensemble, *POINTING, POSITION)
    ensemble[task][1, 2] = np.nan
    columns = telescope_columns(ensemble, *POINTING, POSITION)
    for kind, container in columns.items():
        for name, values in container.items():
            expected = good[kind][name].copy()
            if kind in kinds:
                expected[2] = False if name == "is_valid" else np.nan
            np.testing.assert_array_equal(values, expected, err_msg=name)


def test_an_unknown_pointing_leaves_energy_and_gammaness(ensemble):
    good = telescope_columns(ensemble, *POINTING, POSITION)
    unknown = [angle.copy() for angle in POINTING]
    for angle in unknown:
        angle[4] = np.nan
    columns = telescope_columns(ensemble, *unknown, POSITION)
    valid = [True, True, True, True, False, True]
    assert columns["geometry"].pop("is_valid").tolist() == valid
    for kind in ("geometry", "impact"):
        for name, values in columns[kind].items():
            assert np.isfinite(values).tolist() == valid, name
    for kind in ("energy", PARTICLE_TYPE):
        for name, values in columns[kind].items():
            np.testing.assert_array_equal(values, good[kind][name])


@pytest.mark.parametrize("offset", [(0, 91), (0, -200), (3, np.inf), (np.inf, 3)])
def test_an_offset_beyond_the_sky_makes_the_geometry_invalid(ensemble, offset):
    ensemble["direction"][:, 3] = offset
    columns = telescope_columns(ensemble, *POINTING, POSITION)
    valid = [True, True, True, False, True, True]
    assert columns["geometry"]["is_valid"].tolist() == valid
    assert np.isfinite(columns["impact"]["distance"]).tolist() == valid
    assert columns["energy"]["is_valid"].all()


def test_an_infinite_energy_is_not_valid(ensemble):
    ensemble["energy"][:, 3] = 400
    columns = telescope_columns(ensemble, *POINTING, POSITION)["energy"]
    valid = [True, True, True, False, True, True]
    assert columns["is_valid"].tolist() == valid
    assert np.isfinite(columns["energy"]).tolist() == valid


def test_an_energy_of_nothing_is_not_valid(ensemble):
    """10**-400 is 0 in a computer."""
    ensemble["energy"][:, 0] = -400
    energy = telescope_columns(ensemble, *POINTING, POSITION)["energy"]
    assert energy["is_valid"].tolist() == [False] + [True] * (N - 1)
    assert np.isnan(energy["energy"][0])


def test_nothing_valid_has_an_infinite_uncertainty(ensemble):
    """The width of the members' energies is too large for a number, their mean not."""
    ensemble["energy"][:, 0, 0] = 305, 307.9, 310.8
    with np.errstate(over="ignore"):
        energy = telescope_columns(ensemble, *POINTING, POSITION)["energy"]
    assert energy["is_valid"].tolist() == [False] + [True] * (N - 1)
    assert np.isnan(energy["energy_uncert"][0])


def array_columns(**changes):
    """Valid directions of three events, as two telescopes combine them."""
    columns = {
        "alt": np.array([70.0, 71.0, 72.0]),
        "az": np.array([10.0, 11.0, 12.0]),
        "ang_distance_uncert": np.array([0.1, np.nan, 0.1]),
        "core_x": np.array([1.0, np.nan, 3.0]),
        "telescopes": np.ones((3, 2), dtype=bool),
        "is_valid": np.ones(3, dtype=bool),
    }
    return columns | changes


def test_predictions_of_the_array_are_valid_without_spread_and_core():
    columns, expected = array_columns(), array_columns()
    invalidate_array("geometry", columns)
    for name, values in expected.items():
        np.testing.assert_array_equal(columns[name], values)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alt", np.nan),
        ("alt", np.inf),
        ("az", np.nan),
        ("az", -np.inf),
        ("ang_distance_uncert", np.inf),
    ],
)
def test_predictions_of_the_array_that_are_not_finite_are_not_valid(field, value):
    values = array_columns()[field]
    values[0] = value
    columns = array_columns(**{field: values})
    invalidate_array("geometry", columns)
    assert columns["is_valid"].tolist() == [False, True, True]
    assert columns["telescopes"].any(axis=1).tolist() == [False, True, True]
    for name in ("alt", "az", "ang_distance_uncert", "core_x"):
        assert np.isnan(columns[name][0])
        assert columns[name][2] == array_columns()[name][2]

    # So it is for single events.
    event = ArrayEventContainer()
    fields = {"alt": 70.0, "az": 10.0, "ang_distance_uncert": 0.1} | {field: value}
    event.dl2.stereo.geometry["Net"] = ReconstructedGeometryContainer(
        **{name: v * u.deg for name, v in fields.items()},
        is_valid=True,
        telescopes=[1, 2],
        prefix="Net",
    )
    assert not invalidate_stereo(event, "geometry", "Net")
    stereo = event.dl2.stereo.geometry["Net"]
    assert not stereo.is_valid
    assert stereo.telescopes == []
    assert stereo.prefix == "Net"
    assert np.isnan([stereo.alt.value, stereo.az.value]).all()


def containers(event, tel_id, name):
    """The four containers of a telescope."""
    dl2 = event.dl2.tel[tel_id]
    return {
        "energy": dl2.energy[f"{name}Energy"],
        "geometry": dl2.geometry[f"{name}Geometry"],
        PARTICLE_TYPE: getattr(dl2, PARTICLE_TYPE)[f"{name}Classifier"],
        "impact": dl2.impact[f"{name}Geometry"],
    }


def check_containers(event, tel_id):
    """Types and prefixes, and what ctapipe itself validates."""
    filled = containers(event, tel_id, "Net")
    assert {kind: type(container) for kind, container in filled.items()} == {
        "energy": ReconstructedEnergyContainer,
        "geometry": CONTAINERS["geometry"][0],
        PARTICLE_TYPE: ParticleClassificationContainer,
        "impact": TelescopeImpactParameterContainer,
    }
    assert {kind: container.prefix for kind, container in filled.items()} == {
        "energy": "NetEnergy_tel",
        "geometry": "NetGeometry_tel",
        PARTICLE_TYPE: "NetClassifier_tel",
        "impact": "NetGeometry_tel_impact",
    }
    for container in filled.values():
        container.validate()
    return filled


def test_the_containers_of_a_telescope_get_its_row(ensemble):
    columns = telescope_columns(ensemble, *POINTING, POSITION)
    event = ArrayEventContainer()
    fill_telescope(event, 7, "Net", columns, 4)
    for kind, container in check_containers(event, 7).items():
        for name, values in columns[kind].items():
            assert container[name] == values[4], name
    assert set(event.dl2.tel) == {7}


def test_the_containers_of_a_telescope_without_prediction_are_invalid(ensemble):
    event = ArrayEventContainer()
    fill_invalid(event, 7, "Net", list(UNITS))
    columns = telescope_columns(ensemble, *POINTING, POSITION)
    filled = check_containers(event, 7)
    for kind, container in columns.items():
        for name in container:
            value = filled[kind][name]
            assert value is False if name == "is_valid" else np.isnan(value), name


def test_only_the_kinds_asked_for_are_filled():
    event = ArrayEventContainer()
    fill_invalid(event, 7, "Net", ["energy"])
    assert set(event.dl2.tel[7].energy) == {"NetEnergy"}
    assert not event.dl2.tel[7].geometry
    assert not event.dl2.tel[7].impact


def stereo_event(cores, intensities, invalid=(), name="NetGeometry"):
    """Event whose telescopes saw cores, in m, combined by ctapipe."""
    event = ArrayEventContainer()
    event.monitoring.pointing.array_altitude = np.deg2rad(60) * u.rad
    event.monitoring.pointing.array_azimuth = np.deg2rad(20) * u.rad
    for tel_id, (core, intensity) in enumerate(
        zip(cores, intensities, strict=True), start=1
    ):
        event.dl1.tel[tel_id].parameters = ImageParametersContainer(
            hillas=HillasParametersContainer(intensity=intensity)
        )
        event.dl2.tel[tel_id].geometry[name] = ReconstructedGeometryContainer(
            alt=60 * u.deg,
            az=(20 + 0.1 * tel_id) * u.deg,
            core_x=core[0] * u.m,
            core_y=core[1] * u.m,
            is_valid=tel_id not in invalid,
        )
    combiner = StereoMeanCombiner(prefix=name, property=ReconstructionProperty.GEOMETRY)
    with np.errstate(invalid="ignore"):  # The spread over one telescope.
        combiner(event)
    return event


def combined(event, name="NetGeometry"):
    """Stereo core and its uncertainty in m."""
    add = GammaPhysNetGeometryCombiner(
        prefix=name, property=ReconstructionProperty.GEOMETRY
    )
    add(event)
    stereo = event.dl2.stereo.geometry[name]
    stereo.validate()
    return tuple(
        [stereo[field + axis].to_value(u.m) for axis in "xy"]
        for field in ("core_", "core_uncert_", "core_tilted_")
    )


CORES = [(10.0, -20.0), (40.0, 10.0), (-30.0, 60.0)]


def test_the_stereo_core_is_the_mean_weighted_by_intensity():
    event = stereo_event(CORES, [100, 300, 600])
    before = event.dl2.stereo.geometry["NetGeometry"].as_dict()
    core, uncertainty, _ = combined(event)
    np.testing.assert_allclose(core, [-5, 37])
    # Unbiased, with weights 0.1, 0.3 and 0.6 that give 1 - 0.46.
    variance = np.average(
        (np.array(CORES) - core) ** 2, axis=0, weights=[100, 300, 600]
    )
    np.testing.assert_allclose(uncertainty, np.sqrt(variance / 0.54))
    after = event.dl2.stereo.geometry["NetGeometry"].as_dict()
    for name, value in before.items():
        if not name.startswith("core"):
            np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_equal_intensities_give_mean_and_standard_deviation():
    core, uncertainty, _ = combined(stereo_event(CORES, [50, 50, 50]))
    np.testing.assert_allclose(core, np.mean(CORES, axis=0))
    np.testing.assert_allclose(uncertainty, np.std(CORES, axis=0, ddof=1))


def test_the_stereo_core_does_not_depend_on_the_unit_of_intensity():
    one = combined(stereo_event(CORES, [1, 3, 6]))
    other = combined(stereo_event(CORES, [1e4, 3e4, 6e4]))
    np.testing.assert_allclose(one, other)


def test_unknown_intensities_give_equal_weights():
    core, _, _ = combined(stereo_event(CORES, [1000, np.nan, 1]))
    np.testing.assert_allclose(core, np.mean(CORES, axis=0))


def test_the_tilted_stereo_core_is_in_the_frame_of_the_array():
    event = stereo_event(CORES, [1, 2, 3])
    event.monitoring.tel[1].pointing.altitude = 30 * u.deg
    core, _, tilted = combined(event)
    frame = TiltedGroundFrame(
        pointing_direction=SkyCoord(alt=60 * u.deg, az=20 * u.deg, frame=AltAz())
    )
    expected = SkyCoord(
        x=core[0] * u.m, y=core[1] * u.m, z=0 * u.m, frame=GroundFrame()
    ).transform_to(frame)
    np.testing.assert_allclose(tilted, [expected.x.value, expected.y.value])


def test_a_single_telescope_gives_its_core_without_uncertainty():
    core, uncertainty, _ = combined(stereo_event(CORES, [1, 2, 3], invalid=(1, 3)))
    np.testing.assert_allclose(core, CORES[1])
    assert np.isnan(uncertainty).all()


def test_telescopes_without_valid_geometry_are_left_out():
    event = stereo_event([*CORES, (np.nan, np.nan)], [100, 300, 600, 1e6], {4, 2})
    core, _, _ = combined(event)
    np.testing.assert_allclose(core, np.average(CORES[::2], axis=0, weights=[1, 6]))


def test_an_invalid_stereo_geometry_stays_as_it_is():
    event = stereo_event(CORES, [1, 2, 3], invalid=(1, 2, 3))
    before = event.dl2.stereo.geometry["NetGeometry"].as_dict()
    assert not before["is_valid"]
    combined(event)
    after = event.dl2.stereo.geometry["NetGeometry"].as_dict()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_only_the_geometry_named_is_combined():
    event = stereo_event(CORES, [1, 2, 3])
    event.dl2.stereo.geometry["Other"] = ReconstructedGeometryContainer(is_valid=True)
    combined(event)
    assert np.isnan(event.dl2.stereo.geometry["Other"].core_x)


def test_an_unknown_array_pointing_leaves_the_core():
    event = stereo_event(CORES, [1, 1, 1])
    event.monitoring.pointing.array_azimuth = np.nan * u.rad
    core, _, tilted = combined(event)
    np.testing.assert_allclose(core, np.mean(CORES, axis=0))
    assert np.isnan(tilted).all()


def test_telescopes_whose_network_gives_no_core_are_left_out():
    """Their geometry is valid, and their direction counts."""
    event = stereo_event([*CORES, (np.nan, np.nan)], [100, 300, 600, 1e6])
    assert event.dl2.stereo.geometry["NetGeometry"].telescopes == [1, 2, 3, 4]
    np.testing.assert_allclose(
        combined(event), combined(stereo_event(CORES, [100, 300, 600]))
    )


@pytest.mark.parametrize("n_telescopes", [1, 3])
def test_without_any_core_there_is_no_stereo_core(n_telescopes):
    event = stereo_event([(np.nan, np.nan)] * n_telescopes, range(1, n_telescopes + 1))
    assert event.dl2.stereo.geometry["NetGeometry"].is_valid
    assert np.isnan(combined(event)).all()
