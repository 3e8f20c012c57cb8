"""
Four telescopes: errors, and their combination
==============================================

The network says how sure it is, image by image. Four telescopes are combined by these
errors.
"""

# %%
# Reconstruction
# --------------
#
# Gamma rays of a point source, half a degree beside the pointing, in four LSTs
# (simulated the first time), go through ``ctapipe-process`` with the configuration of
# ``examples``, which runs ctapipe's ``HillasReconstructor`` beside γ-PhysNet::
#
#     ctapipe-process --config examples/gpn.yaml --input source.dl1.h5 \
#         --output source.dl2.h5

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import AltAz, SkyCoord, angular_separation
from ctapipe.coordinates import TelescopeFrame
from ctapipe.core import run_tool
from ctapipe.io import EventSource, TableLoader
from ctapipe.tools.process import ProcessorTool
from ctapipe.visualization import CameraDisplay
from matplotlib.patches import Ellipse

examples = Path("../../examples").resolve()
output = Path(tempfile.mkdtemp())

size = os.environ.get("TUTORIALS", "full")  # or small, to see that everything runs
cards, cache = Path("cards", size), Path("cache", size).resolve()
samples = {name: cache / f"{name}.dl1.h5" for name in ["source"]}
wanted = [cards / f"{name}.airshower.yaml" for name in samples]
simulate = examples / "simulation/simulate.py"  # what is missing
subprocess.run([sys.executable, simulate, *wanted, f"--output-dir={cache}"], check=True)

run_tool(
    ProcessorTool(),
    argv=[
        f"--config={examples / 'gpn.yaml'}",
        f"--input={samples['source']}",
        f"--output={output / 'source.dl2.h5'}",
        "--no-progress",
        "--log-level=WARN",
    ],
    cwd=examples.parent,
)

with TableLoader(output / "source.dl2.h5") as loader:
    images = loader.read_telescope_events(
        dl1_parameters=True, dl2=True, simulated=True, pointing=False
    )
    events = loader.read_subarray_events(dl2=True, simulated=True)
images = images[images["GammaPhysNetGeometry_tel_is_valid"]]
events = events[events["GammaPhysNetGeometry_is_valid"]]
print(f"{len(images)} images, {len(events)} array events")

# %%
# One shower, four images
# -----------------------
#
# Each telescope has a direction and an ellipse, which is predicted to hold 68 % of the
# true directions. Its columns are the half widths ``alt_uncert`` and ``az_uncert``, and
# ``alt_az_correlation``.


def ellipse(row, prefix, **style):
    """Draw the ellipse of a direction, in degrees on the sky around the pointing."""
    alt, az = row[f"{prefix}alt"], row[f"{prefix}az"]
    # A degree of azimuth is less than a degree on the sky. The ellipse of 68 % in two
    # dimensions is 1.52 times as wide as the projections, which hold 68 % in one.
    across = row[f"{prefix}az_uncert"] * np.cos(np.deg2rad(alt))
    along = row[f"{prefix}alt_uncert"]
    mixed = row[f"{prefix}alt_az_correlation"] * across * along
    variances, axes = np.linalg.eigh([[across**2, mixed], [mixed, along**2]])
    width, height = 2 * 1.52 * np.sqrt(variances)
    center = SkyCoord(alt=alt * u.deg, az=az * u.deg, frame=AltAz()).transform_to(frame)
    return Ellipse(
        (center.fov_lon.deg, center.fov_lat.deg),
        width,
        height,
        angle=np.rad2deg(np.arctan2(axes[1, 0], axes[0, 0])),
        fill=False,
        linewidth=2,
        **style,
    )


frame = TelescopeFrame(telescope_pointing=AltAz(alt=70 * u.deg, az=180 * u.deg))
source = SkyCoord(
    alt=events["true_alt"][0] * u.deg, az=events["true_az"][0] * u.deg, frame=AltAz()
)
star = source.transform_to(frame)

# An event of middle brightness that all telescopes see.
full = events[events["GammaPhysNetGeometry_telescopes"].sum(axis=1) == 4]
chosen = full[np.argsort(full["true_energy"])[len(full) // 2]]
seen = images[
    (images["obs_id"] == chosen["obs_id"]) & (images["event_id"] == chosen["event_id"])
]
with EventSource(samples["source"]) as reader:
    for event in reader:
        index = event.index
        if (index.obs_id, index.event_id) == (chosen["obs_id"], chosen["event_id"]):
            break
    cameras = {i: t.camera.geometry for i, t in reader.subarray.tel.items()}

fig, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
for number, (ax, row) in enumerate(zip(axes, seen, strict=True)):
    tel_id = row["tel_id"]
    camera = cameras[tel_id].transform_to(frame)
    CameraDisplay(
        camera, event.dl1.tel[tel_id].image, ax=ax, title="", show_frame=False
    )
    ax.add_patch(
        ellipse(row, "GammaPhysNetGeometry_tel_", color=f"C{number}", label="telescope")
    )
    ax.plot(star.fov_lon.deg, star.fov_lat.deg, "*", color="white", markersize=8)
    ax.set_title(f"LST {tel_id}")
plt.show()

# %%
# All four ellipses, and that of the array, the product of the four error distributions.
# The star is the source.

fig, ax = plt.subplots(figsize=(6, 5), layout="constrained")
for number, row in enumerate(seen):
    label = f"LST {row['tel_id']}"
    ax.add_patch(
        ellipse(row, "GammaPhysNetGeometry_tel_", color=f"C{number}", label=label)
    )
ax.add_patch(ellipse(chosen, "GammaPhysNetGeometry_", color="black", label="array"))
ax.plot(star.fov_lon.deg, star.fov_lat.deg, "k*", markersize=14)
ax.set(xlabel="fov_lon / deg", ylabel="fov_lat / deg", aspect="equal")
ax.set_title(f"A gamma ray of {chosen['true_energy']:.2g} TeV")
ax.legend()
ax.autoscale_view()
plt.show()

# %%
# Are the errors right?
# ---------------------
#
# ``ang_distance_uncert`` is the radius of a circle that should hold 68 % of the true
# directions, for images like those of the training: more than 50 photoelectrons, and
# little light at the camera's edge.


def separation(table, prefix):
    """Angle to the source in degrees."""
    return angular_separation(
        table[f"{prefix}az"].quantity,
        table[f"{prefix}alt"].quantity,
        source.az,
        source.alt,
    ).to_value(u.deg)


like_training = images[
    (images["hillas_intensity"] > 50) & (images["leakage_intensity_width_2"] < 0.2)
]
for name, table, prefix in (
    ("images", like_training, "GammaPhysNetGeometry_tel_"),
    ("array events", events, "GammaPhysNetGeometry_"),
):
    radius = table[f"{prefix}ang_distance_uncert"].quantity.to_value(u.deg)
    inside = np.mean(separation(table, prefix) < radius)
    print(f"{inside:.0%} of {len(table)} {name} are inside of their circles")

# %%
# The errors also sort the events. Each point is a fifth of the array events, from the
# smallest predicted errors to the largest:

error = events["GammaPhysNetGeometry_ang_distance_uncert"].quantity.to_value(u.deg)
angle = separation(events, "GammaPhysNetGeometry_")
groups = np.array_split(np.argsort(error), 5)

fig, ax = plt.subplots(layout="constrained")
ax.plot(
    [np.median(error[group]) for group in groups],
    [np.quantile(angle[group], 0.68) for group in groups],
    "o",
    label="array events, a fifth each",
)
ax.axline((0, 0), slope=1, linestyle=":", color="gray", label="as predicted")
ax.set(
    xlim=(0, None),
    ylim=(0, None),
    xlabel="predicted 68 % radius / deg",
    ylabel="68 % containment of the angle to the source / deg",
)
ax.legend()
plt.show()

# %%
# What do four telescopes gain?
# -----------------------------
#
# The same array events three times: each image on its own, all of them together, and by
# ``HillasReconstructor``, which needs two telescopes. The simulation uses each shower
# several times, so that events are not independent: the errors come from drawing
# showers, not events.

both = events[
    events["HillasReconstructor_is_valid"]
    & (events["GammaPhysNetGeometry_telescopes"].sum(axis=1) > 1)
]
keys = set(zip(both["obs_id"], both["event_id"], strict=True))
mono = images[
    [key in keys for key in zip(images["obs_id"], images["event_id"], strict=True)]
]
rng = np.random.default_rng(0)

fig, ax = plt.subplots(layout="constrained")
for name, table, prefix in (
    ("γ-PhysNet, one telescope", mono, "GammaPhysNetGeometry_tel_"),
    ("γ-PhysNet, array", both, "GammaPhysNetGeometry_"),
    ("HillasReconstructor", both, "HillasReconstructor_"),
):
    angle = separation(table, prefix)
    # event_id is 100 times the shower's number and the number of its use.
    _, shower = np.unique(
        table["obs_id"] * 10**6 + table["event_id"] // 100, return_inverse=True
    )
    members = [np.flatnonzero(shower == i) for i in range(shower.max() + 1)]
    drawn = rng.integers(len(members), size=(100, len(members)))
    resampled = [
        np.quantile(angle[np.concatenate([members[i] for i in sample])], 0.68)
        for sample in drawn
    ]
    print(
        f"{name}: 68 % of {len(table)} directions within "
        f"{np.quantile(angle, 0.68):.3f} ± {np.std(resampled):.3f} deg"
    )
    ax.ecdf(angle, label=name)
ax.axhline(0.68, color="gray", linestyle=":")
ax.set(
    xlim=(0, 0.6),
    xlabel="angle to the source / deg",
    ylabel="share of directions within",
)
ax.legend()
plt.show()

# %%
# By the number of telescopes that saw the event:

several = np.asarray(events["GammaPhysNetGeometry_telescopes"].sum(axis=1))
angle = separation(events, "GammaPhysNetGeometry_")
fig, ax = plt.subplots(layout="constrained")
for number in (2, 3, 4):
    of_these = angle[several == number]
    ax.ecdf(of_these, label=f"{number} telescopes: {len(of_these)} events")
ax.set(
    xlim=(0, 0.6),
    xlabel="angle to the source / deg",
    ylabel="share of directions within",
)
ax.set_title(f"{len(images)} images, {size} sample")
ax.legend()
plt.show()

# %%
# Events that more telescopes see are also brighter. :doc:`/guide/telescopes` says how
# telescopes are combined, and :doc:`/performance` what that gives on a larger sample.
