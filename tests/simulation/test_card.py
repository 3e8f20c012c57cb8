"""A card is read as it is meant, and what is wrong with it is said."""

import os

import astropy.units as u
import pytest
from ctapipe.core import ToolConfigurationError

from ctapipe_gammaphysnet.simulation.card import AirShowerCard, CardError, read_card
from ctapipe_gammaphysnet.simulation.instruments import ARRAYS

SHORTEST = "particle: gamma\nshowers: 10\nseed: 1\n"
FULL = """\
particle: proton
showers: 500
seed: 7
first_run: 11
runs: 4
reuse: 20
energy_min: 0.1 TeV
energy_max: 1e5 GeV
spectral_index: -2.7
pointing:
  altitude: 52 deg
  azimuth: -1 rad
view_cone: 10 deg
scatter_radius: 1.5 km
night_sky_rate: 400 MHz
site: paranal
array: lst4
multiplicity: 3
"""


@pytest.fixture
def read(tmp_path):
    """Function that reads a card from its text or its bytes."""

    def read(content):
        path = tmp_path / "test.airshower.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_card(path)

    return read


def test_full_card(read):
    card = read(FULL)
    assert (card.particle, card.showers, card.seed) == ("proton", 500, 7)
    assert list(card.run_numbers) == [11, 12, 13, 14]
    assert card.reuse == 20
    assert card.energy_min == 100 * u.GeV
    assert card.energy_max == 100 * u.TeV
    assert card.spectral_index == -2.7
    assert card.pointing.altitude == 52 * u.deg
    assert card.pointing.azimuth == -1 * u.rad
    assert card.view_cone == 10 * u.deg
    assert card.scatter_radius == 1500 * u.m
    assert card.night_sky_rate == 0.4 * u.GHz
    assert (card.site, card.array, card.multiplicity) == ("paranal", "lst4", 3)


@pytest.mark.parametrize(
    ("particle", "energies", "view_cone", "radius"),
    [
        ("gamma", [10 * u.GeV, 10 * u.TeV], 0 * u.deg, 350 * u.m),
        ("electron", [10 * u.GeV, 10 * u.TeV], 5 * u.deg, 500 * u.m),
        ("proton", [40 * u.GeV, 30 * u.TeV], 5 * u.deg, 500 * u.m),
    ],
)
def test_defaults(read, particle, energies, view_cone, radius):
    card = read(f"particle: {particle}\nshowers: 10\nseed: 1\n")
    assert [card.energy_min, card.energy_max] == energies
    assert card.view_cone == view_cone
    assert card.scatter_radius == radius
    assert list(card.run_numbers) == [1]
    assert card.reuse == 10
    assert card.spectral_index == -2
    assert card.pointing.altitude == 70 * u.deg
    assert card.pointing.azimuth == 180 * u.deg
    assert card.night_sky_rate == 0.24 * u.GHz
    assert (card.site, card.array) == ("la_palma", "lst1")


@pytest.mark.parametrize("array", list(ARRAYS))
def test_default_multiplicity_is_stereo_where_it_can_be(read, array):
    assert read(f"{SHORTEST}array: {array}").multiplicity == min(2, len(ARRAYS[array]))


def test_limits_are_allowed(read):
    card = read(
        f"{SHORTEST}energy_min: 1 GeV\nenergy_max: 1 GeV\n"
        "pointing: {altitude: 90 deg}\nview_cone: 70 deg\n"
        "scatter_radius: 0 m\nnight_sky_rate: 0 Hz\n"
    )
    assert card.energy_min == card.energy_max
    assert card.view_cone == 70 * u.deg


def test_nights_that_differ(read):
    card = read(
        f"{SHORTEST}pointing:\n  altitude: [40 deg, 1.4 rad]\n"
        "  azimuth: [-60 deg, 1 rad]\n"
        "night_sky_rate: [0.2 GHz, 400 MHz]\n"
    )
    assert card.pointing.altitude == (40 * u.deg, 1.4 * u.rad)
    assert card.pointing.azimuth == (-60 * u.deg, 1 * u.rad)
    assert card.night_sky_rate == (0.2 * u.GHz, 0.4 * u.GHz)
    assert card == AirShowerCard(**dict(card))


def test_list_of_pointings(read):
    card = read(
        f"{SHORTEST}pointing:\n- altitude: 50 deg\n- {{azimuth: [0 deg, 90 deg]}}\n"
    )
    first, second = card.pointing
    assert (first.altitude, first.azimuth) == (50 * u.deg, 180 * u.deg)
    assert second.altitude == 70 * u.deg
    assert second.azimuth == (0 * u.deg, 90 * u.deg)


def test_source_offset(read):
    card = read(f"{SHORTEST}source_offset: 0.4 deg")
    assert card.source_offset == 0.4 * u.deg
    assert card.position_angle == "random"
    card = read(f"{SHORTEST}source_offset: 0.4 deg\nposition_angle: 90 deg")
    assert card.position_angle == 90 * u.deg
    proton = "particle: proton\nshowers: 1\nseed: 1\nsource_offset: 1 deg"
    assert read(proton).view_cone == 0 * u.deg
    assert read(proton.replace("1 deg", "0 deg")).view_cone == 5 * u.deg


def test_cards_are_frozen_and_compare_by_value(read):
    card = read(SHORTEST)
    assert card == AirShowerCard(particle="gamma", showers=10, seed=1)
    assert card == read(f"{SHORTEST}energy_max: 10000 GeV")
    with pytest.raises(ValueError, match="frozen"):
        card.seed = 2


@pytest.mark.parametrize(
    ("lines", "key", "says"),
    [
        ("shower: 3", "shower", "unknown key, did you mean showers?"),
        ("Seed: 3", "Seed", "did you mean seed?"),
        ("magnetic: 3", "magnetic", "unknown key, use particle, showers, seed"),
        ("7: 3", "7", "unknown key"),
        (
            "pointing: {alt: 70 deg}",
            "pointing.alt",
            "unknown key, use altitude, azimuth",
        ),
        ("pointing: 70 deg", "pointing", "'70 deg' must be given as keys"),
        ("site: lapalma", "site", "'lapalma' is unknown, did you mean la_palma?"),
        ("site: [a]", "site", r"\['a'\] is unknown, use la_palma, paranal"),
        (
            "array: sst",
            "array",
            "'sst' is unknown, use lst1, lst4, nectarcam1, lst4",
        ),
        ("array: {}", "array", "{} is unknown"),
        ("energy_min: 20", "energy_min", "20 has no unit; write it like 20 GeV"),
        ("energy_min: '20'", "energy_min", "20 has no unit; write it like 20 GeV"),
        ("energy_min: 20 gev", "energy_min", "20 gev is not a number and a unit"),
        ("energy_min: GeV 20", "energy_min", "GeV 20 is not a number and a unit"),
        ("energy_min: 20 m", "energy_min", "20 m is not an energy; write it like"),
        ("energy_min: nan GeV", "energy_min", "nan GeV is not one finite number"),
        ("view_cone: 9 exadegree99999999999999999", "view_cone", "write it like 70"),
        ("energy_min: 0.9 GeV", "energy_min", "0.9 GeV must be from 1 GeV to 100 TeV"),
        ("energy_min: -3 TeV", "energy_min", "-3 TeV must be from 1 GeV to 100 TeV"),
        ("energy_max: 101 TeV", "energy_max", "101 TeV must be from 1 GeV to 100 TeV"),
        ("energy_max: 5 GeV", "energy_max", "5 GeV must not be below energy_min"),
        ("spectral_index: 2", "spectral_index", "2 should be less than 0"),
        ("spectral_index: steep", "spectral_index", "steep should be a valid number"),
        ("spectral_index: .nan", "spectral_index", "nan should be a finite number"),
        (
            "pointing: {altitude: 29 deg}",
            "pointing.altitude",
            "29 deg must be from 30 deg to 90 deg above the horizon",
        ),
        ("pointing: {altitude: 91 deg}", "pointing.altitude", "91 deg must be from 30"),
        ("pointing: {azimuth: 400 deg}", "pointing.azimuth", "400 deg must be from"),
        ("pointing: []", "pointing", "is an empty list; name at least one"),
        ("pointing: [70 deg]", "pointing.entry 1", "'70 deg' must be given as keys"),
        (
            "pointing: [{altitude: 70 deg}, {altitude: 20 deg}]",
            "pointing.entry 2.altitude",
            "20 deg must be from 30 deg",
        ),
        ("pointing: [{alt: 70 deg}]", "pointing.entry 1.alt", "use altitude, azimuth"),
        (
            "pointing: {altitude: [29 deg, 70 deg]}",
            "pointing.altitude",
            "must be from 30 deg to 90 deg above the horizon.*, and 29 deg is not",
        ),
        ("pointing: {altitude: [70 deg]}", "pointing.altitude", "is not two limits"),
        (
            "pointing: {azimuth: [9 deg, 8 deg]}",
            "pointing.azimuth",
            "lower limit first",
        ),
        (
            "pointing: {altitude: [40, 70]}",
            "pointing.altitude",
            "has a lowest limit that has no unit; write it",
        ),
        ("night_sky_rate: [0.2 GHz, 11 GHz]", "night_sky_rate", "and 11 GHz is not"),
        (
            "night_sky_rate: [0.2 GHz, 2 m]",
            "night_sky_rate",
            "has a highest limit that is not a rate",
        ),
        (
            "scatter_radius: [1 m, 2 m]",
            "scatter_radius",
            "takes one value, not a list; write it like 350 m",
        ),
        ("source_offset: -1 deg", "source_offset", "-1 deg must not be negative"),
        (
            "source_offset: [1 deg, 2 deg]",
            "source_offset",
            "takes one value, not a list; write it like 70 deg",
        ),
        ("source_offset: 51 deg", "source_offset", "must be at most 10 deg: further"),
        ("source_offset: 11 deg", "source_offset", "must be at most 10 deg: further"),
        (
            "view_cone: 1 deg\nsource_offset: 1 deg",
            "source_offset",
            "is of a point source, and view_cone of diffuse showers; give only one",
        ),
        ("position_angle: 1 deg", "position_angle", "is of a source with a source_off"),
        (
            "source_offset: 1 deg\nposition_angle: 361 deg",
            "position_angle",
            "must be from 0 deg to 360 deg",
        ),
        (
            "source_offset: 1 deg\nposition_angle: any",
            "position_angle",
            "any is not a number and a unit",
        ),
        ("view_cone: 0", "view_cone", "0 has no unit; write it like 70 deg"),
        ("view_cone: -1 deg", "view_cone", "-1 deg must not be negative"),
        ("view_cone: 51 deg", "view_cone", "51 deg must be at most 50 deg"),
        (
            "pointing: [{altitude: 80 deg}, {altitude: [40 deg, 60 deg]}]\n"
            "view_cone: 21 deg",
            "view_cone",
            "21 deg must be at most 20 deg at pointing 2 of 2, down to an altitude of "
            "40 deg: showers",
        ),
        ("scatter_radius: -1 m", "scatter_radius", "-1 m must be from 0 m to 5000 m"),
        ("scatter_radius: 9 km", "scatter_radius", "9 km must be from 0 m to 5000 m"),
        ("night_sky_rate: -1 Hz", "night_sky_rate", "-1 Hz must be from 0 GHz"),
        ("night_sky_rate: 1 ns", "night_sky_rate", "1 ns is not a rate"),
        ("reuse: 0", "reuse", "0 should be greater than or equal to 1"),
        ("reuse: 101", "reuse", "101 should be less than or equal to 100"),
        ("reuse: 1.5", "reuse", "1.5 should be a valid integer"),
        ("runs: -1", "runs", "-1 should be greater than or equal to 1"),
        ("runs: true", "runs", "True should be a valid integer"),
        ("first_run: 2147483647\nruns: 2", "runs", "2 must be smaller"),
        ("multiplicity: 2", "multiplicity", "2 must be at most 1, the number of"),
        ("seed: 2", "seed", "given twice, again in line 4"),
        ("pointing: {altitude: 60 deg, altitude: 70 deg}", "altitude", "given twice"),
    ],
)
def test_wrong_value(read, lines, key, says):
    with pytest.raises(CardError, match=rf"test\.airshower\.yaml: {key}: .*{says}"):
        read(f"{SHORTEST}{lines}\n")


@pytest.mark.parametrize("key", ["particle", "showers", "seed"])
def test_missing_key(read, key):
    text = "".join(
        line for line in SHORTEST.splitlines(keepends=True) if key not in line
    )
    with pytest.raises(CardError, match=rf"yaml: {key}: this key is missing$"):
        read(text)


@pytest.mark.parametrize("particle", ["muon", "[]", "proton\nenergy_min: 4 GeV"])
def test_wrong_particle_is_a_single_error(read, particle):
    with pytest.raises(CardError, match=r"yaml: (particle|energy_min): [^;]*$"):
        read(f"showers: 1\nseed: 1\nparticle: {particle}\n")


def test_all_wrong_keys_are_named(read):
    with pytest.raises(CardError, match="reuse: .*; energy_max: .*; runz: "):
        read(f"{SHORTEST}runz: 1\nenergy_max: 3\nreuse: 0\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "does not hold keys and values"),
        ("- particle: gamma", "does not hold keys and values"),
        ("gamma", "does not hold keys and values"),
        (f"{SHORTEST}runs: [", "is not YAML: .*line 4"),
        (f"{SHORTEST}? [a, b]\n: 3", "is not YAML: .*unhashable"),
        (f"{SHORTEST}runs: 2024-13-45", "runs: 2024-13-45 should be a valid integer"),
        ("!!map gamma", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("[" * 90_000, "is not YAML"),
        (f"{SHORTEST}reuse: &a 3", "is not YAML as in a card: line 4: .* not & or"),
        (f"{SHORTEST}a: &a [b, b]\nc: [*a, *a]", "is not YAML as in a card: line 4"),
        (f"{SHORTEST}reuse: !!int 3", "is not YAML as in a card: line 4: .* without !"),
        (f"{SHORTEST}reuse: !!bool x", "is not YAML as in a card: line 4"),
        (f"{SHORTEST}reuse: !!timestamp x", "is not YAML as in a card: line 4"),
        (f"{SHORTEST}reuse: {'9' * 5000}", "line 4: 9*[.]{3} has 5000 characters"),
        (f"{SHORTEST}{'k' * 101}: 1", "line 4: k*[.]{3} has 101 characters"),
        (f'{SHORTEST}site: "\\ud800"', r"line 4: \\ud800 has .* cannot be printed"),
        (f'{SHORTEST}site: "\\e[31m"', r"line 4: \\x1b\[31m has .* be printed"),
        (f"{SHORTEST}view_cone: 1\xa0deg", r"line 4: 1\\xa0deg has .* be printed"),
        (f"{SHORTEST}site: |\n  a\n  b", r"line 4: a\\nb has a line break"),
        (f"{SHORTEST}#{'-' * 100_000}", "is not a card: it has more than 100000 bytes"),
        ("seed: \x00", r"is not YAML: line 1: character '\\x00'"),
        (b"particle: \xff", "is not a text in UTF-8"),
    ],
)
def test_not_a_card(read, content, says):
    with pytest.raises(CardError, match=rf"(?s)test\.airshower\.yaml: {says}"):
        read(content)


def test_marks_and_line_ends_of_other_systems(read):
    card = read(SHORTEST)
    assert read(b"\xef\xbb\xbf" + SHORTEST.encode()) == card
    assert read(SHORTEST.replace("\n", "\r\n")) == card


@pytest.mark.parametrize("value", ["010", "0x10", "0b11", "1:30", "yes", "2024-01-01"])
def test_numbers_are_decimal(read, value):
    """YAML 1.1 would take them for 8, 16, 3, 90, true and a date."""
    with pytest.raises(CardError, match=f"reuse: {value} should be a valid integer"):
        read(f"{SHORTEST}reuse: {value}")


def test_many_errors_are_a_short_message(read):
    lines = "".join(f"key{i}: {i}\n" for i in range(2000))
    with pytest.raises(CardError, match="key0: .*; and 1997 more$") as error:
        read(SHORTEST + lines)
    assert len(str(error.value)) < 1000


def test_something_else_than_a_file(tmp_path):
    path = tmp_path / "pipe.airshower.yaml"
    os.mkfifo(path)
    with pytest.raises(CardError, match="is a device or a pipe, not a file"):
        read_card(path)
    link = tmp_path / "zero.airshower.yaml"
    link.symlink_to("/dev/zero")
    with pytest.raises(CardError, match="is a device or a pipe, not a file"):
        read_card(link)


def test_a_name_that_cannot_be_printed(tmp_path):
    path = tmp_path / os.fsdecode(b"a\xff\n.airshower.yaml")
    with pytest.raises(CardError, match=r"a\\xff\\n.airshower.yaml: .*No such file"):
        read_card(path)
    with pytest.raises(CardError, match="embedded null"):
        read_card(tmp_path / "a\0.airshower.yaml")


def test_file_cannot_be_read(tmp_path):
    with pytest.raises(CardError, match=r"none\.airshower\.yaml: .*No such file"):
        read_card(tmp_path / "none.airshower.yaml")
    with pytest.raises(CardError, match="Is a directory"):
        read_card(tmp_path)


def test_tools_print_the_error_without_traceback():
    assert issubclass(CardError, ToolConfigurationError)
