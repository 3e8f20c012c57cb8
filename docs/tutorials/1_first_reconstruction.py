"""
First reconstruction, and a θ² plot
===================================

From camera images to energies, directions and gammaness with ``ctapipe-process``, and
from there to the plot that shows a source.
"""

# %%
# A first file of DL2
# -------------------
#
# ``examples/data`` has a small sample of simulated gamma rays in four LSTs, and a
# trained model. One command of ctapipe reconstructs it::
#
#     ctapipe-process --input sample_gamma.dl1.h5 --output gamma.dl2.h5 \
#         --write-showers --reconstructor GammaPhysNetReconstructor \
#         --GammaPhysNetReconstructor.load_path=lst_demonstration.safetensors
#
# The same in Python, where ``run_tool`` takes the place of the shell:

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import AltAz, SkyCoord, angular_separation
from astropy.table import vstack
from astropy.utils.metadata import MergeConflictWarning
from ctapipe.coordinates import TelescopeFrame
from ctapipe.core import run_tool
from ctapipe.io import EventSource, TableLoader
from ctapipe.tools.process import ProcessorTool
from ctapipe.visualization import CameraDisplay

from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet

# The sample was made with an older ctapipe, which its tables are marked with.
warnings.simplefilter("ignore", MergeConflictWarning)

examples = Path("../../examples").resolve()
model = examples / "data/lst_demonstration.safetensors"
sample = examples / "data/sample_gamma.dl1.h5"
output = Path(tempfile.mkdtemp())

run_tool(
    ProcessorTool(),
    argv=[
        f"--input={sample}",
        f"--output={output / 'gamma.dl2.h5'}",
        "--write-showers",
        "--reconstructor=GammaPhysNetReconstructor",
        f"--GammaPhysNetReconstructor.load_path={model}",
        "--log-level=WARN",
    ],
)

# %%
# The result is a file like any other of ctapipe, and ``TableLoader`` reads it. The
# columns of γ-PhysNet begin with ``GammaPhysNet``:

with TableLoader(output / "gamma.dl2.h5") as loader:
    events = loader.read_subarray_events(dl2=True, simulated=True)

shown = events[events["GammaPhysNetEnergy_is_valid"]][
    "event_id",
    "true_energy",
    "GammaPhysNetEnergy_energy",
    "GammaPhysNetEnergy_energy_uncert",
    "GammaPhysNetClassifier_prediction",
][:6]
shown.round(3)
shown

# %%
# :doc:`/guide/output` explains all columns.
#
# What the network saw
# --------------------
#
# It has only the images: charge and peak time of each pixel. Here is the brightest
# image of the sample that is well inside the camera, with the direction that was found
# from this image alone.

with TableLoader(output / "gamma.dl2.h5") as loader:
    images = loader.read_telescope_events(
        dl1_parameters=True, dl2=True, simulated=True, pointing=False
    )

inside = images["leakage_intensity_width_2"] < 0.1
brightest = images[inside][np.argmax(images["hillas_intensity"][inside])]

with EventSource(sample) as source:
    for event in source:
        if event.index.event_id == brightest["event_id"]:
            image = event.dl1.tel[brightest["tel_id"]].image
            break
    camera = source.subarray.tel[brightest["tel_id"]].camera.geometry

# The telescopes look south, at 70° altitude. In the telescope's frame angles are on
# the sky, and the pointing is the origin.
pointing = AltAz(alt=70 * u.deg, az=180 * u.deg)
frame = TelescopeFrame(telescope_pointing=pointing)

fig, ax = plt.subplots(layout="constrained")
display = CameraDisplay(camera.transform_to(frame), image, ax=ax, show_frame=False)
display.add_colorbar(label="charge / p.e.")
for name, marker, prefix in (
    ("true", "*", "true_"),
    ("γ-PhysNet", "X", "GammaPhysNetGeometry_tel_"),
):
    direction = SkyCoord(
        alt=brightest[f"{prefix}alt"] * u.deg,
        az=brightest[f"{prefix}az"] * u.deg,
        frame=AltAz(),
    ).transform_to(frame)
    ax.plot(
        direction.fov_lon.deg,
        direction.fov_lat.deg,
        marker,
        color="tab:red" if marker == "X" else "white",
        markeredgecolor="black",
        markersize=14,
        label=f"direction, {name}",
    )
ax.legend()
ax.set_title(f"A gamma ray of {brightest['true_energy']:.2g} TeV in one LST")
plt.show()

# %%
# A source
# --------
#
# For a θ² plot we need a source, and more events than the small sample has. The package
# simulates them. A card says what: here gamma rays of a point source, half a degree
# beside the pointing. The card of the protons is alike, but they come from everywhere.
# In full, a few minutes are needed the first time.

size = os.environ.get("TUTORIALS", "full")  # or small, to see that everything runs
cards, cache = Path("cards", size), Path("cache", size).resolve()
print((cards / "source.airshower.yaml").read_text())

samples = {name: cache / f"{name}.dl1.h5" for name in ("source", "proton")}
wanted = [cards / f"{name}.airshower.yaml" for name in samples]
simulate = examples / "simulation/simulate.py"  # what is missing
subprocess.run([sys.executable, simulate, *wanted, f"--output-dir={cache}"], check=True)

# %%
# For whole files there is a faster command than ``ctapipe-process``, with the same
# result::
#
#     ctapipe-apply-gammaphysnet --input source.dl1.h5 proton.dl1.h5 \
#         --model lst_demonstration.safetensors --output-dir .

run_tool(
    ApplyGammaPhysNet(),
    argv=[
        "--input",
        *map(str, samples.values()),
        f"--model={model}",
        f"--output-dir={output}",
        "--no-progress",
        "--log-level=WARN",
    ],
)

# %%
# We look at both together, as if they were an observation. Gammaness is 1 for gamma
# rays, and 0 for background.

tables = []
for name in samples:
    with TableLoader(output / f"{name}.dl2.h5") as loader:
        table = loader.read_subarray_events(dl2=True, simulated=True)
    table["is_gamma"] = name == "source"
    tables.append(table[table["GammaPhysNetGeometry_is_valid"]])
events = vstack(tables, metadata_conflicts="silent")
gammaness = events["GammaPhysNetClassifier_prediction"]

fig, ax = plt.subplots(layout="constrained")
for name, chosen in (
    ("gamma rays", events["is_gamma"]),
    ("protons", ~events["is_gamma"]),
):
    ax.hist(
        gammaness[chosen],
        np.linspace(0, 1, 26),
        histtype="step",
        linewidth=2,
        label=name,
    )
ax.set(xlabel="gammaness", ylabel="array events")
ax.legend()
plt.show()

# %%
# The θ² plot
# -----------
#
# θ is the angle between the reconstructed direction and the source, in the *on* region.
# Background comes from *off* regions: positions at the same distance from the pointing,
# where there is no source. As the telescopes' response is the same there, they show
# what would be in the on region without the source.

center = SkyCoord(alt=70 * u.deg, az=180 * u.deg, frame=AltAz())
angles = np.arange(90, 450, 90) * u.deg  # the source is at the first one
positions = center.directional_offset_by(angles, 0.5 * u.deg)

selected = events[gammaness > 0.7]
theta2 = np.array(
    [
        angular_separation(
            selected["GammaPhysNetGeometry_az"].quantity,
            selected["GammaPhysNetGeometry_alt"].quantity,
            position.az,
            position.alt,
        ).to_value(u.deg)
        ** 2
        for position in positions
    ]
)
on, off = theta2[0], theta2[1:]

bins = np.linspace(0, 0.12, 25)
n_on, _ = np.histogram(on, bins)
n_off, _ = np.histogram(off, bins)
n_off = n_off / len(off)

fig, ax = plt.subplots(layout="constrained")
ax.stairs(n_off, bins, fill=True, color="lightgray", label="off, mean of three regions")
middle = (bins[1:] + bins[:-1]) / 2
ax.errorbar(middle, n_on, np.sqrt(n_on), fmt="o", label="on")
ax.set(xlabel="θ² / deg²", ylabel="array events")
ax.set_title(f"Gammaness above 0.7, {size} sample")
ax.legend()
plt.show()

# %%
# There are as many gamma rays and protons as we simulated, which is not the proportion
# of the sky: for a significance, or a flux, :ref:`instrument response functions
# <sphx_glr_gallery_5_irfs.py>` are needed.
#
# How good is it? Of the gamma rays, 68 % are closer to the source than

gammas = events["is_gamma"]
separation = angular_separation(
    events["GammaPhysNetGeometry_az"].quantity[gammas],
    events["GammaPhysNetGeometry_alt"].quantity[gammas],
    positions[0].az,
    positions[0].alt,
)
images = np.sum(events["GammaPhysNetGeometry_telescopes"][gammas])
print(
    f"{np.quantile(separation, 0.68).to(u.deg):.3f} "
    f"({np.sum(gammas)} array events, {images} images, {size} sample)"
)

# %%
# To go on: :doc:`/guide/reconstruct` has all options, :doc:`/guide/bulk` whole nights
# and productions, and :ref:`four telescopes <sphx_glr_gallery_4_stereo.py>` says what
# the errors are good for.
