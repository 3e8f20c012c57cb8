"""
From DL2 to instrument response functions
=========================================

ctapipe's own tools choose cuts and compute the response of the instrument. gammapy
reads it.
"""

# %%
# The samples
# -----------
#
# Gamma rays, protons and electrons in four LSTs, simulated the first time, and
# reconstructed with the demonstration model::
#
#     ctapipe-apply-gammaphysnet --input gamma.dl1.h5 proton.dl1.h5 electron.dl1.h5 \
#         --model lst_demonstration.safetensors --output-dir .

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy.table import QTable
from ctapipe.core import run_tool
from ctapipe.io import TableLoader
from ctapipe.tools.compute_irf import IrfTool
from ctapipe.tools.optimize_event_selection import EventSelectionOptimizer
from gammapy.irf import load_irf_dict_from_file

from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet

# The cuts have no metadata like those of event files.
warnings.filterwarnings("ignore", message="Could not read reference metadata")

examples = Path("../../examples").resolve()
output = Path(tempfile.mkdtemp())

size = os.environ.get("TUTORIALS", "full")  # or small, to see that everything runs
cards, cache = Path("cards", size), Path("cache", size).resolve()
samples = {name: cache / f"{name}.dl1.h5" for name in ("gamma", "proton", "electron")}
wanted = [cards / f"{name}.airshower.yaml" for name in samples]
simulate = examples / "simulation/simulate.py"  # what is missing
subprocess.run([sys.executable, simulate, *wanted, f"--output-dir={cache}"], check=True)

run_tool(
    ApplyGammaPhysNet(),
    argv=[
        "--input",
        *map(str, samples.values()),
        f"--model={examples / 'data/lst_demonstration.safetensors'}",
        f"--output-dir={output}",
        "--no-progress",
        "--log-level=WARN",
    ],
)
for name in samples:
    with TableLoader(output / f"{name}.dl2.h5") as loader:
        print(f"{name}: {len(loader.read_telescope_events())} images")

# %%
# Cuts
# ----
#
# ``ctapipe-optimize-event-selection`` chooses a cut on gammaness, and one on θ, in bins
# of energy. The configuration names our columns; its cuts keep 68 % of the gamma rays,
# since samples as small as these do not allow to look for the best sensitivity:

config = examples / "irf/irf.yaml"
print(config.read_text())
files = [f"--{name}-file={output / f'{name}.dl2.h5'}" for name in samples]
run_tool(
    EventSelectionOptimizer(),
    argv=[
        f"--config={config}",
        *files,
        f"--output={output / 'cuts.fits'}",
        "--log-level=WARN",
    ],
)

cuts = QTable.read(output / "cuts.fits", hdu="GH_CUTS")
cuts

# %%
# The response
# ------------

run_tool(
    IrfTool(),
    argv=[
        f"--config={config}",
        *files,
        f"--cuts={output / 'cuts.fits'}",
        f"--output={output / 'irf.fits.gz'}",
        f"--benchmark-output={output / 'benchmarks.fits.gz'}",
        "--log-level=WARN",
    ],
)

irf = load_irf_dict_from_file(output / "irf.fits.gz")
for name, response in irf.items():
    print(f"{name}: {type(response).__name__}, axes {response.axes.names}")

# %%
# Effective area
# --------------
#
# The area in which showers would have to fall for as many events, after the cut on
# gammaness. Bins of energy without events have no point.

aeff, psf, edisp, background = (irf[name] for name in ("aeff", "psf", "edisp", "bkg"))
energy = aeff.axes["energy_true"].center
offsets = aeff.axes["offset"].center

fig, ax = plt.subplots(layout="constrained")
for offset in offsets:
    area = aeff.evaluate(energy_true=energy, offset=offset).to_value("m2")
    seen = area > 0
    ax.plot(
        energy.to_value("TeV")[seen], area[seen], "o-", label=f"{offset:.2f} off axis"
    )
ax.set(
    xscale="log",
    xlim=(0.02, 10),
    yscale="log",
    xlabel="true energy / TeV",
    ylabel="effective area / m²",
)
ax.set_title(f"{size} sample")
ax.legend()
plt.show()

# %%
# Point spread function and energy dispersion
# -------------------------------------------

fig, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
offset = offsets[0]
known = aeff.evaluate(energy_true=energy, offset=offset) > 0
radius = psf.containment_radius(fraction=0.68, energy_true=energy[known], offset=offset)
axes[0].plot(energy[known].to("TeV"), radius.to("deg"), "o-")
axes[0].set(
    xscale="log",
    xlim=(0.02, 10),
    ylim=(0, None),
    xlabel="true energy / TeV",
    ylabel="68 % containment / deg",
)

migra = edisp.axes["migra"]
density = edisp.evaluate(
    energy_true=energy[:, np.newaxis], offset=offset, migra=migra.center
)
mesh = axes[1].pcolormesh(
    aeff.axes["energy_true"].edges.to_value("TeV"),
    migra.edges.to_value(""),
    np.ma.masked_equal(density.to_value("").T, 0),
)
axes[1].axhline(1, color="red", linewidth=1)
axes[1].set(
    xscale="log",
    ylim=(0, 3),
    xlabel="true energy / TeV",
    ylabel="reconstructed / true energy",
)
fig.colorbar(mesh, label="probability density")
plt.show()

# %%
# Background
# ----------
#
# Protons and electrons that pass the cuts, weighted to their fluxes, per energy, time
# and solid angle:

energy = background.axes["energy"].center
rate = background.to_unit("s-1 TeV-1 sr-1").data[:, 0]
seen = rate > 0
fig, ax = plt.subplots(layout="constrained")
ax.plot(energy.to_value("TeV")[seen], rate[seen], "o-")
ax.set(
    xscale="log",
    yscale="log",
    xlabel="reconstructed energy / TeV",
    ylabel="rate / (s⁻¹ TeV⁻¹ sr⁻¹)",
)
ax.set_title(f"{background.axes['offset'].center[0]:.2f} off axis, {size} sample")
plt.show()

# %%
# With event lists beside it, gammapy makes spectra and maps of such a file.
# :doc:`/guide/science_tools` is about the same steps in a shell.
