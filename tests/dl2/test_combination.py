"""A table of many events is combined as its events are one by one."""

from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable, Table
from ctapipe.containers import (
    ArrayEventContainer,
    HillasParametersContainer,
    ImageParametersContainer,
    LeakageContainer,
)
from ctapipe.core import ToolConfigurationError
from ctapipe.reco import StereoCombiner, StereoMeanCombiner
from ctapipe.reco.reconstructor import ReconstructionProperty
from traitlets.config import Config

from ctapipe_gammaphysnet.compat import PARTICLE_TYPE
from ctapipe_gammaphysnet.dl2.combination import (
    combine_event,
    combine_table,
    make_combiners,
)
from ctapipe_gammaphysnet.dl2.containers import (
    CONTAINERS,
    PROPERTIES,
    group_names,
    needed_fields,
    telescope_container,
)
from ctapipe_gammaphysnet.dl2.stereo import GammaPhysNetGeometryCombiner
from ctapipe_gammaphysnet.dl2.telescope_table import telescope_table

TEL_IDS = [1, 3, 7, 12]
N_EVENTS = 40
# Not in their order, and of several observations.
OBS_ID = np.repeat([5, 2], N_EVENTS // 2)
EVENT_ID = np.arange(N_EVENTS)[::-1] % 25
ARRAY_ALT = np.linspace(60, 80, N_EVENTS) * u.deg
ARRAY_AZ = np.linspace(0, 300, N_EVENTS) * u.deg
FIELDS = {
    "energy": ("energy",),
    "geometry": ("alt", "az", "core_x", "core_y"),
    PARTICLE_TYPE: ("prediction",),
}

WIDTHS = "energy_uncert", "alt_uncert", "az_uncert", "core_uncert_x", "core_uncert_y"
CORRELATIONS = "alt_az_correlation", "core_correlation"


def make_chunk(rng, frame=""):
    """Images of events that triggered some telescopes, or none."""
    event = {t: np.flatnonzero(rng.random(N_EVENTS) < 0.6) for t in TEL_IDS}
    parameters = {
        tel_id: QTable(
            {
                "obs_id": OBS_ID[rows],
                "event_id": EVENT_ID[rows],
                "tel_id": np.full(len(rows), tel_id),
                f"{frame}hillas_intensity": rng.uniform(50, 5000, len(rows)),
                f"{frame}hillas_width": rng.uniform(0.05, 0.1, len(rows)) * u.deg,
                f"{frame}hillas_length": rng.uniform(0.1, 0.3, len(rows)) * u.deg,
                "leakage_intensity_width_2": rng.uniform(0, 0.5, len(rows)),
            }
        )
        for tel_id, rows in event.items()
    }
    return SimpleNamespace(
        obs_id=OBS_ID,
        event_id=EVENT_ID,
        array_alt=ARRAY_ALT,
        array_az=ARRAY_AZ,
        event=event,
        parameters=parameters,
    )


def predict(rng, chunk, errors=False):
    """Predictions of the telescopes, some of which are not valid."""
    telescopes = {}
    for tel_id, rows in chunk.event.items():
        values = {
            "energy": 10 ** rng.uniform(-1, 1, len(rows)),
            # Across north, and near the zenith.
            "alt": rng.uniform(80, 90, len(rows)),
            "az": rng.uniform(-30, 30, len(rows)) % 360,
            "core_x": rng.normal(scale=100, size=len(rows)),
            "core_y": rng.normal(scale=100, size=len(rows)),
            "prediction": rng.random(len(rows)),
        }
        fields_of = dict(FIELDS)
        if errors:
            values |= {name: rng.uniform(1, 2, len(rows)) for name in WIDTHS}
            values |= {name: rng.uniform(-1, 1, len(rows)) for name in CORRELATIONS}
            fields_of["energy"] += ("energy_uncert",)
            fields_of["geometry"] += (*CORRELATIONS, *WIDTHS[1:])
        telescopes[tel_id] = {}
        for kind, fields in fields_of.items():
            valid = rng.random(len(rows)) < 0.8
            telescopes[tel_id][kind] = {"is_valid": valid} | {
                field: np.where(valid, values[field], np.nan) for field in fields
            }
    # A network without the task impact.
    telescopes[7]["geometry"]["core_x"][:] = np.nan
    return telescopes


def make_event(chunk, telescopes, number, frame=""):
    """One of the events, as ctapipe has it."""
    event = ArrayEventContainer()
    event.monitoring.pointing.array_altitude = chunk.array_alt[number].to(u.rad)
    event.monitoring.pointing.array_azimuth = chunk.array_az[number].to(u.rad)
    for tel_id, rows in chunk.event.items():
        for row in np.flatnonzero(rows == number):
            one = chunk.parameters[tel_id][row]
            hillas = {
                name: one[f"{frame}hillas_{name}"]
                for name in ("intensity", "width", "length")
            }
            event.dl1.tel[tel_id].parameters = ImageParametersContainer(
                hillas=HillasParametersContainer(**hillas),
                leakage=LeakageContainer(
                    intensity_width_2=one["leakage_intensity_width_2"]
                ),
            )
            for kind, columns in telescopes[tel_id].items():
                units = CONTAINERS[kind][0].fields
                values = {
                    name: u.Quantity(value[row], units[name].unit)
                    if units[name].unit
                    else value[row]
                    for name, value in columns.items()
                }
                container = telescope_container("P", kind, **values)
                event.dl2.tel[tel_id][kind][group_names("P")[kind]] = container
    return event


def both_forms(chunk, telescopes, name="StereoMeanCombiner", frame="", **options):
    """Columns of a table, and containers of its events, of each kind."""
    parent = StereoMeanCombiner(
        property=ReconstructionProperty.ENERGY, config=Config({name: options})
    )
    combiners = make_combiners(PROPERTIES, "P", name, parent)
    table, event = telescope_table(chunk, telescopes, "P")
    found, expected = {}, {}
    events = [make_event(chunk, telescopes, i, frame) for i in range(N_EVENTS)]
    for kind, of_kind in combiners.items():
        found[kind] = combine_table(of_kind, table, event, N_EVENTS, TEL_IDS)
        valid = [combine_event(of_kind, one) for one in events]
        expected[kind] = [one.dl2.stereo[kind][of_kind[0].prefix] for one in events]
        assert valid == [bool(one.is_valid) for one in expected[kind]]
    return found, expected


def assert_same(found, expected):
    for kind, columns in found.items():
        valid = np.array([one.is_valid for one in expected[kind]])
        np.testing.assert_array_equal(columns["is_valid"], valid)
        mask = [np.isin(TEL_IDS, one.telescopes) for one in expected[kind]]
        np.testing.assert_array_equal(columns["telescopes"], mask)
        for name, field in CONTAINERS[kind][0].fields.items():
            if name in ("is_valid", "telescopes"):
                continue
            one_by_one = [
                u.Quantity(one[name], field.unit or u.one).to_value(field.unit or u.one)
                # Containers of ctapipe's combiners have no correlations.
                if name in one.fields
                else np.nan
                for one in expected[kind]
            ]
            values = columns.get(name, np.full(N_EVENTS, np.nan))
            np.testing.assert_allclose(
                values, one_by_one, rtol=1e-9, atol=1e-9, err_msg=f"{kind}: {name}"
            )
            assert not np.isnan(values[valid]).any() or name not in needed_fields(kind)


WEIGHTS = pytest.mark.parametrize("weights", StereoMeanCombiner.weights.values)


@WEIGHTS
@pytest.mark.parametrize("log_target", [False, True])
def test_tables_are_combined_as_events(weights, log_target):
    rng = np.random.default_rng(3)
    chunk = make_chunk(rng)
    found, expected = both_forms(
        chunk, predict(rng, chunk), weights=weights, log_target=log_target
    )
    assert_same(found, expected)
    n_telescopes = found["energy"]["telescopes"].sum(axis=1)
    assert set(n_telescopes) == {0, 1, 2, 3, 4}
    spread = found["energy"]["energy_uncert"]
    np.testing.assert_array_equal(np.isfinite(spread), n_telescopes > 1)
    spread = found["geometry"]["ang_distance_uncert"]
    n_telescopes = found["geometry"]["telescopes"].sum(axis=1)
    np.testing.assert_array_equal(np.isfinite(spread), n_telescopes > 1)


def test_tables_are_combined_by_errors_as_events():
    rng = np.random.default_rng(3)
    chunk = make_chunk(rng)
    telescopes = predict(rng, chunk, errors=True)
    # Networks without errors do not count.
    telescopes[3]["energy"]["energy_uncert"][:] = np.nan
    telescopes[12]["geometry"]["az_uncert"][:5] = np.nan
    found, expected = both_forms(chunk, telescopes, "GammaPhysNetStereoCombiner")
    assert_same(found, expected)
    for kind, telescopes in (("energy", {0, 1, 2, 3}), ("geometry", {0, 1, 2, 3, 4})):
        assert set(found[kind]["telescopes"].sum(axis=1)) == telescopes
    for field in (*WIDTHS[1:], *CORRELATIONS[:1], "ang_distance_uncert"):
        known = np.isfinite(found["geometry"][field])
        assert known.sum() > 10, field
        assert known[~found["geometry"]["is_valid"]].sum() == 0
    assert np.isfinite(found["geometry"]["core_tilted_uncert_x"]).sum() > 10


def test_energies_are_the_weighted_mean_of_numpy():
    """What both forms give, by hand."""
    rng = np.random.default_rng(4)
    chunk = make_chunk(rng)
    telescopes = predict(rng, chunk)
    found, _ = both_forms(chunk, telescopes, weights="intensity")
    n_several = 0
    for number in range(N_EVENTS):
        energies, weights = [], []
        for tel_id, rows in chunk.event.items():
            for row in np.flatnonzero(rows == number):
                energy = telescopes[tel_id]["energy"]["energy"][row]
                if np.isfinite(energy):
                    energies.append(energy)
                    intensity = chunk.parameters[tel_id]["hillas_intensity"][row]
                    weights.append(intensity)
        if len(energies) > 1:
            n_several += 1
            mean = np.average(energies, weights=weights)
            spread = np.sqrt(np.cov(energies, aweights=weights))
            assert found["energy"]["energy"][number] == pytest.approx(mean)
            assert found["energy"]["energy_uncert"][number] == pytest.approx(spread)
    assert n_several > 10


@WEIGHTS
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hillas_intensity", np.nan),
        ("hillas_intensity", 0),
        ("hillas_intensity", -1),
        ("hillas_width", 0 * u.deg),
        ("hillas_length", 0 * u.deg),
        ("leakage_intensity_width_2", 1),
    ],
)
def test_a_strange_image_spoils_its_own_event_at_most(weights, name, value):
    rng = np.random.default_rng(5)
    chunk = make_chunk(rng)
    for rows in chunk.parameters.values():
        rows[name][:2] = value
    found, expected = both_forms(chunk, predict(rng, chunk), weights=weights)
    assert_same(found, expected)
    is_strange = np.isin(
        np.arange(N_EVENTS), np.concatenate([rows[:2] for rows in chunk.event.values()])
    )
    for columns in found.values():
        triggered = columns["telescopes"].any(axis=1)
        assert columns["is_valid"][triggered & ~is_strange].all()
        assert columns["is_valid"].sum() > 20


@WEIGHTS
def test_weights_are_known_in_the_camera_frame(weights):
    """As files of older versions of ctapipe have them."""
    found = []
    for frame in ("", "camera_frame_"):
        rng = np.random.default_rng(6)
        chunk = make_chunk(rng, frame)
        of_frame, expected = both_forms(
            chunk, predict(rng, chunk), frame=frame, weights=weights
        )
        assert_same(of_frame, expected)
        found.append(of_frame)
    np.testing.assert_array_equal(*(of_frame["energy"]["energy"] for of_frame in found))


@pytest.mark.parametrize("n_triggered", [0, N_EVENTS])
def test_no_prediction_is_valid(n_triggered):
    rng = np.random.default_rng(7)
    chunk = make_chunk(rng)
    if n_triggered == 0:
        chunk.event, chunk.parameters = {}, {}
    telescopes = {
        tel_id: {kind: {"is_valid": np.zeros(len(rows), bool)} for kind in PROPERTIES}
        for tel_id, rows in chunk.event.items()
    }
    found, _ = both_forms(chunk, telescopes)
    for kind, columns in found.items():
        assert not columns["is_valid"].any()
        assert columns["telescopes"].shape == (N_EVENTS, len(TEL_IDS))
        assert not columns["telescopes"].any()
        for field in needed_fields(kind):
            assert np.isnan(columns[field]).all()


class BrightestCombiner(StereoCombiner):
    """The prediction of the brightest image; faint events are left out."""

    def __call__(self, event):
        (kind,) = [k for k, prop in PROPERTIES.items() if prop is self.property]
        valid = {
            tel_id: event.dl1.tel[tel_id].parameters.hillas.intensity
            for tel_id, dl2 in event.dl2.tel.items()
            if dl2[kind][self.prefix].is_valid
        }
        if valid and max(valid.values()) > 1000:
            tel_id = max(valid, key=valid.get)
            mono = event.dl2.tel[tel_id][kind][self.prefix]
            values = {f: mono[f] for f in (*needed_fields(kind), "is_valid")}
            event.dl2.stereo[kind][self.prefix] = CONTAINERS[kind][0](
                **values, telescopes=[tel_id], prefix=self.prefix
            )

    def predict_table(self, mono_predictions):
        (kind,) = [k for k, prop in PROPERTIES.items() if prop is self.property]
        table = mono_predictions[mono_predictions[f"{self.prefix}_tel_is_valid"]]
        table = table[table["hillas_intensity"] > 1000]
        table.sort("hillas_intensity", reverse=True)
        keys = np.column_stack([table["obs_id"], table["event_id"]])
        # In another order than they came.
        _, first = np.unique(keys, axis=0, return_index=True)
        table = table[first]
        stereo = Table({key: table[key] for key in ("obs_id", "event_id")})
        for field in (*needed_fields(kind), "is_valid"):
            stereo[f"{self.prefix}_{field}"] = table[f"{self.prefix}_tel_{field}"]
        stereo[f"{self.prefix}_telescopes"] = [[tel_id] for tel_id in table["tel_id"]]
        return stereo


def test_whatever_combiner_there_is_works_in_tables():
    rng = np.random.default_rng(8)
    chunk = make_chunk(rng)
    found, expected = both_forms(chunk, predict(rng, chunk), "BrightestCombiner")
    assert_same(found, expected)
    # The impact point is that of the telescope that the combiner chose.
    assert np.isfinite(found["geometry"]["core_x"]).sum() > 10
    assert np.isnan(found["geometry"]["core_uncert_x"]).all()
    assert 10 < found["energy"]["is_valid"].sum() < N_EVENTS


class EventCombiner(StereoMeanCombiner):
    """It combines single events only."""

    def predict_table(self, mono_predictions):
        raise NotImplementedError


def test_a_combiner_of_single_events_is_a_clear_error():
    rng = np.random.default_rng(9)
    chunk = make_chunk(rng)
    with pytest.raises(ToolConfigurationError, match="EventCombiner.* ctapipe-process"):
        both_forms(chunk, predict(rng, chunk), "EventCombiner")


def test_impact_points_have_a_combiner_of_ctapipe():
    combiner = StereoCombiner.from_name(
        "GammaPhysNetGeometryCombiner",
        prefix="P",
        property=ReconstructionProperty.GEOMETRY,
    )
    assert type(combiner) is GammaPhysNetGeometryCombiner
    with pytest.raises(NotImplementedError, match="combines impact points, not"):
        GammaPhysNetGeometryCombiner(property=ReconstructionProperty.ENERGY)


def test_a_combiner_of_another_property_is_a_clear_error():
    name = "GammaPhysNetGeometryCombiner"
    with pytest.raises(ToolConfigurationError, match=f"{name}, .* combine the energy"):
        make_combiners(["energy"], "P", name)
