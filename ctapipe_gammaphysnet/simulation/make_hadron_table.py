"""Make the table of hadronic collisions that the simulation draws from.

Unlike the rest of the package, this needs ``chromo`` (``pip install chromo``), which
downloads PYTHIA's data when it is first used. It takes a minute::

    python -m ctapipe_gammaphysnet.simulation.make_hadron_table --output hadrons.npz

The same seed gives the same table: it seeds SIBYLL, and for both models the choice of
the nucleus that is hit; PYTHIA's own random numbers always start from its default seed,
which chromo does not change.
"""

import argparse
import io
import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ..files.output import write_whole
from .hadrons import FORMAT, MOMENTUM_SCALE, PROJECTILES
from .particles import MASS_GEV, Particle

ENERGY_GEV = 4.0 * 2.0 ** np.arange(14)  # to 32 TeV
#: Lowest energy at which SIBYLL is used; it needs 10 GeV in the centre of mass.
SIBYLL_GEV = 64.0
#: By number of nuclei; argon is counted as oxygen.
AIR = {"N14": 0.785, "O16": 0.215}
#: Kinetic energies below which secondaries are left out: they make no light.
HADRON_CUT_GEV, LEPTON_CUT_GEV = 1.0, 0.02

_NAME = {Particle.PROTON: "proton", Particle.PION_PLUS: "pi+", Particle.KAON_PLUS: "K+"}
_PDG = {
    22: Particle.GAMMA,
    11: Particle.ELECTRON,
    -11: Particle.POSITRON,
    13: Particle.MUON_MINUS,
    -13: Particle.MUON_PLUS,
    -211: Particle.PION_MINUS,
    211: Particle.PION_PLUS,
    -321: Particle.KAON_MINUS,
    321: Particle.KAON_PLUS,
    130: Particle.KAON_LONG,
    310: Particle.KAON_SHORT,
    2112: Particle.NEUTRON,
    2212: Particle.PROTON,
    -2112: Particle.ANTINEUTRON,
    -2212: Particle.ANTIPROTON,
    111: Particle.PION_ZERO,
    # eta mesons that a model has not decayed: mostly photons and neutral pions
    221: Particle.PION_ZERO,
    331: Particle.PION_ZERO,
}
#: Hyperons are followed as Lambda.
_PDG |= {
    sign * code: Particle.LAMBDA
    for code in (3122, 3112, 3212, 3222, 3312, 3322, 3334)
    for sign in (1, -1)
}
_CITATIONS = [
    "SIBYLL 2.3d: F. Riehn et al., Phys. Rev. D 102 (2020) 063002",
    "PYTHIA 8: C. Bierlich et al., SciPost Phys. Codebases 8 (2022); cascade mode: "
    "T. Sjöstrand and M. Utheim, Eur. Phys. J. C 82 (2022) 21",
    "chromo: A. Fedynitch et al., Comput. Phys. Commun. 321 (2026) 110031",
]


def make_generators(seed):
    """
    Start both models.

    Parameters
    ----------
    seed : int
        Of SIBYLL's random numbers, and of chromo's for the nuclei that are hit.

    Returns
    -------
    dict
        Generators of chromo by name.
    """
    try:
        from chromo.kinematics import FixedTarget
        from chromo.models import Pythia8Cascade, Sibyll23d
    except ModuleNotFoundError:
        raise SystemExit("This needs chromo: pip install chromo") from None
    kinematics = FixedTarget(SIBYLL_GEV, "proton", _air())
    generators = {
        "SIBYLL 2.3d": Sibyll23d(kinematics, seed=seed),
        "PYTHIA 8 cascade": Pythia8Cascade(kinematics, seed=seed),
    }
    # chromo asks for 10 GeV in the centre of mass, the model itself for far less
    # (Sjöstrand and Utheim, section 2).
    generators["PYTHIA 8 cascade"]._ecm_min = 1.0
    return generators


def _air():
    from chromo.util import CompositeTarget

    return CompositeTarget(list(AIR.items()))


def select(event, energy_gev):
    """
    Keep the secondaries of a collision that the cascade follows.

    Parameters
    ----------
    event : chromo.common.EventData
        Final state.
    energy_gev : float
        Of the projectile.

    Returns
    -------
    particle : numpy.ndarray
        Codes, shape (n,), int8.
    momentum : numpy.ndarray
        px and py in GeV and pz in the unit of the table, shape (n, 3), float16.
    energy : float
        Their energy in GeV.
    """
    particle = np.array([_PDG.get(int(pid), -1) for pid in event.pid], dtype=int)
    mass = np.where(particle >= 0, MASS_GEV[particle], 0)
    momentum = np.column_stack([event.px, event.py, event.pz])
    energy = np.sqrt((momentum**2).sum(axis=1) + mass**2)
    light = np.isin(
        particle,
        [Particle.GAMMA, Particle.ELECTRON, Particle.POSITRON, Particle.PION_ZERO],
    )
    cut = np.where(light, LEPTON_CUT_GEV, HADRON_CUT_GEV)
    kept = (particle >= 0) & (momentum[:, 2] > 0) & (energy - mass > cut)
    stored = momentum[kept] * [1, 1, MOMENTUM_SCALE / energy_gev]
    return particle[kept].astype(np.int8), stored.astype(np.float16), energy[kept].sum()


def generate(generator, projectile, energy_gev, n_collisions):
    """
    Make collisions of one kind.

    Parameters
    ----------
    generator : chromo.common.MCRun
        The model.
    projectile : Particle
        What collides with air.
    energy_gev : float
        Its total energy.
    n_collisions : int
        How many.

    Returns
    -------
    collisions : list of tuple
        (particle, momentum) of each, as from `select`.
    cross_section_mb : float
        For production.
    kept : float
        Mean share of the projectile's energy in the secondaries that are kept.
    """
    from chromo.kinematics import FixedTarget

    generator.kinematics = FixedTarget(energy_gev, _NAME[projectile], _air())
    section = generator.cross_section()
    production = section.prod if np.isfinite(section.prod) else section.inelastic
    collisions, energies = [], []
    # All events of a call: chromo orders them by nucleus.
    for event in generator(n_collisions):
        *secondaries, energy = select(event.final_state(), energy_gev)
        collisions.append(secondaries)
        energies.append(energy)
    return collisions, float(production), float(np.mean(energies) / energy_gev)


def main():
    """Make the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--collisions", type=int, default=850)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    generators = make_generators(args.seed)
    particle, momentum, count = [], [], []
    cross_section = np.empty((len(PROJECTILES), len(ENERGY_GEV)))
    kept = np.empty_like(cross_section)
    for i, projectile in enumerate(PROJECTILES):
        for j, energy in enumerate(ENERGY_GEV):
            name = "SIBYLL 2.3d" if energy >= SIBYLL_GEV else "PYTHIA 8 cascade"
            collisions, cross_section[i, j], kept[i, j] = generate(
                generators[name], projectile, energy, args.collisions
            )
            for codes, momenta in collisions:
                particle.append(codes)
                momentum.append(momenta)
                count.append(len(codes))
            print(
                f"{_NAME[projectile]:6} {energy:7.0f} GeV, {name}: "
                f"{cross_section[i, j]:.0f} mb, {kept[i, j]:.1%} of the energy in "
                f"{np.mean(count[-args.collisions :]):.1f} particles",
                flush=True,
            )

    import chromo

    provenance = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "models": [
            f"SIBYLL 2.3d from {SIBYLL_GEV:g} GeV",
            f"PYTHIA {generators['PYTHIA 8 cascade'].version} cascade mode below",
        ],
        "chromo": chromo.__version__,
        "python": platform.python_version(),
        "seed": args.seed,
        "collisions_per_projectile_and_energy": args.collisions,
        "air": AIR,
        "kinetic_energy_cuts_gev": {
            "hadrons and muons": HADRON_CUT_GEV,
            "photons, electrons, neutral pions": LEPTON_CUT_GEV,
        },
        "kept_energy": {
            _NAME[projectile]: dict(
                zip(map(str, ENERGY_GEV), row.round(4).tolist(), strict=True)
            )
            for projectile, row in zip(PROJECTILES, kept, strict=True)
        },
        "citations": _CITATIONS,
    }
    content = io.BytesIO()
    np.savez_compressed(
        content,
        format=np.int64(FORMAT),
        energy_gev=ENERGY_GEV,
        cross_section_mb=cross_section,
        count=np.array(count, np.int16).reshape(*cross_section.shape, -1),
        particle=np.concatenate(particle),
        momentum=np.concatenate(momentum),
        provenance=json.dumps(provenance, ensure_ascii=False),
    )
    write_whole(args.output, content.getvalue())
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
