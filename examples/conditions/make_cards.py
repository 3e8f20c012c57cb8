"""Write the cards of the samples of this folder.

    python make_cards.py

writes them beside this script. `README.md` tells what they are for.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
NOTE = "# A demonstration, not for science. Written by make_cards.py.\n"
#: Gammas, equally many per decade of energy, under the dark night sky.
POINTING = """\
particle: gamma
showers: {showers}
runs: {runs}
seed: {seed}
energy_min: 50 GeV
energy_max: 3 TeV
spectral_index: -1
view_cone: 2 deg
scatter_radius: {radius} m
pointing:
  altitude: {altitude} deg
  azimuth: 180 deg
night_sky_rate: 0.24 GHz
site: la_palma
array: lst4
"""
#: Zenith angle in deg: seeds of training and test, radius in m. Far from the zenith the
#: light falls on a wider circle.
ZENITH_ANGLES = {
    20: (4040, 4047, 350),
    30: (None, 4043, 350),
    40: (4041, 4044, 350),
    50: (None, 4045, 450),
    60: (4042, 4046, 600),
}
#: Showers of the reference sample under other night skies: rate, and number of runs.
#: Each run is one night, so a range needs many, with few showers each.
REFERENCE = FOLDER.parent / "demonstration"
NIGHT_SKIES = {
    "dark": ("[0.2 GHz, 0.4 GHz]", 14),
    "range": ("[0.2 GHz, 0.8 GHz]", 14),
    "bright": ("0.72 GHz", 4),
}
SHOWERS = {"gamma": 1500, "proton": 14000}


def pointing_cards():
    """Make the cards of the zenith angles.

    Returns
    -------
    dict of str to str
        Text by name.
    """
    cards = {}
    for zenith, (train, test, radius) in ZENITH_ANGLES.items():
        common = {"altitude": 90 - zenith, "radius": radius}
        test_card = {"showers": 100, "runs": 3, "seed": test}
        cards[f"test_zenith{zenith}"] = POINTING.format(**common, **test_card)
        if train is not None:
            train_card = {"showers": 100, "runs": 8, "seed": train}
            cards[f"train_zenith{zenith}"] = POINTING.format(**common, **train_card)
    # A tenth of the images, of other showers.
    cards["tenth_zenith60"] = POINTING.format(
        showers=80, runs=1, seed=4048, altitude=30, radius=600
    )
    return cards


def night_sky_cards():
    """Make the cards of the night skies.

    Returns
    -------
    dict of str to str
        Text by name.
    """
    cards = {}
    for particle in ("gamma", "proton"):
        train = _lines(REFERENCE / f"train_{particle}.airshower.yaml")
        for name, (rate, runs) in NIGHT_SKIES.items():
            showers = SHOWERS[particle] // runs
            cards[f"train_{name}_{particle}"] = _with(
                train, showers=showers, runs=runs, night_sky_rate=rate
            )
        test = _lines(REFERENCE / f"test_{particle}.airshower.yaml")
        bright, _ = NIGHT_SKIES["bright"]
        changed = _with(test, runs=1, night_sky_rate=bright)
        cards[f"test_bright_{particle}"] = changed
    return cards


def _lines(path):
    """Lines of a card without comments."""
    lines = (line.partition("#")[0].rstrip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def _with(lines, **values):
    """Text of a card with other values."""
    return "".join(
        f"{key}: {values[key]}\n"
        if (key := line.partition(":")[0]) in values
        # All else stays.
        else f"{line}\n"
        for line in lines
    )


def main():
    """Write all cards."""
    for name, text in (pointing_cards() | night_sky_cards()).items():
        (FOLDER / f"{name}.airshower.yaml").write_text(NOTE + text)


if __name__ == "__main__":
    main()
