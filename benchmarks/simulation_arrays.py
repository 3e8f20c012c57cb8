"""Whether LSTs and MSTs of one array see what they should, side by side.

`simulation_physics` runs these checks.
"""

import numpy as np
from checks import Check, around

from ctapipe_gammaphysnet.simulation.card import AirShowerCard
from ctapipe_gammaphysnet.simulation.conditions import draw_conditions
from ctapipe_gammaphysnet.simulation.efficiency import FACTORS
from ctapipe_gammaphysnet.simulation.instruments import make_subarray
from ctapipe_gammaphysnet.simulation.primaries import Primary
from ctapipe_gammaphysnet.simulation.production import Production

ARRAY = "lst4_mst9"
LSTS = range(1, 5)

# A gamma ray of 1.3 TeV from a public file of CTAO (test data of pyeventio,
# gamma_prod6_lst_nectarcam, which is of the fifth production): altitude and azimuth in
# rad, core, vertical depth of the maximum, and true photoelectrons of each telescope.
OFFICIAL = Primary(
    1296.366, 1.21900475, 6.25273705, np.array([43.4517]), np.array([-51.3301])
)
X_MAX = 281.6
LIGHT = {
    **{1: 10289, 2: 6737, 3: 9931, 4: 8651, 5: 539, 6: 501, 7: 737},
    **{8: 1293, 9: 1700, 10: 1205, 11: 402, 14: 506, 19: 2602},
}
# MSTs by distance from the axis. One event fluctuates, by less from type to type than
# from shower to shower.
DISTANCES = {"67 to 182 m": (8, 9, 10, 19), "250 to 302 m": (5, 6, 7, 11, 14)}

# Of protons, from IRFDOC, as in pyirf: flux per cm², s, TeV and sr at 1 TeV, and index.
FLUX, INDEX = 9.8e-6, -2.62
PROTONS = {
    "particle": "proton",
    "seed": 8,
    "energy_min": "20 GeV",
    "energy_max": "3 TeV",
    "view_cone": "6 deg",
    "scatter_radius": "600 m",
}


def make_production(**values):
    """Describe the array; by default, one telescope is enough."""
    values = {"showers": 1, "seed": 1, "array": ARRAY, "multiplicity": 1} | values
    card = AirShowerCard(**values)
    return Production(card, make_subarray(ARRAY, card.site))


def check_types():
    """Light of MSTs relative to that of LSTs, and trigger rates of both."""
    yield from check_light()
    yield from check_trigger_rates()


def check_light(showers=60):
    """Size against impact distance: MSTs in units of LSTs."""
    production = make_production(
        particle="gamma", pointing={"altitude": "70 deg", "azimuth": "0 deg"}
    )
    night = production._night(draw_conditions(production.card, 1))
    light = {tel_id: 0.0 for tel_id in LIGHT}
    for i in range(showers):
        rng = np.random.default_rng([1296, i])
        for event in production._shower_events(night, 1, OFFICIAL, rng):
            if abs(event.x_max_g_cm2 - X_MAX) < 40:
                for tel_id, telescope in event.telescopes.items():
                    light[tel_id] += telescope.true_image.sum()
    # The official LSTs have new mirrors.
    new = sum(light[i] for i in LSTS) / FACTORS["LSTCam"].degradation
    official = sum(LIGHT[i] for i in LSTS)
    for distance, tel_ids in DISTANCES.items():
        ours = sum(light[i] for i in tel_ids) / new
        theirs = sum(LIGHT[i] for i in tel_ids) / official
        yield around(
            f"1.3 TeV gamma: light of MSTs at {distance} over that of LSTs",
            ours,
            theirs,
            0.25,
            "an official event",
        )


def check_trigger_rates(showers=600):
    """Rates at which protons alone trigger a telescope."""
    production = make_production(showers=showers, **PROTONS)
    card = production.card
    rates = dict.fromkeys(production._tel_ids, 0.0)
    for event in production.events(1):
        for tel_id in event.telescopes:
            rates[tel_id] += weight_khz(card, event.energy_gev / 1e3)
    for name, tel_ids in (("LST", LSTS), ("MST", sum(DISTANCES.values(), ()))):
        yield Check(
            f"trigger rate of an {name} by protons from 20 GeV to 3 TeV, kHz",
            np.mean([rates[i] for i in tel_ids]),
            1.0,
            10.0,
            "some kHz",
        )


def weight_khz(card, energy_tev):
    """Rate that a simulated event of an energy stands for."""
    low, high = (e.to_value("TeV") for e in (card.energy_min, card.energy_max))
    density = energy_tev**-2.0 / (1 / low - 1 / high)  # of simulated showers, per TeV
    area_cm2 = np.pi * card.scatter_radius.to_value("cm") ** 2
    solid_angle = 2 * np.pi * (1 - np.cos(card.view_cone.to_value("rad")))
    flux = FLUX * energy_tev**INDEX * area_cm2 * solid_angle
    return flux / density / (card.showers * card.reuse) / 1e3
