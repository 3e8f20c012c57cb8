"""
What does the network look at?
==============================

Heatmaps (Grad-CAM) show which pixels raise an output of the network, attention maps
which pixels it brings to the front.
"""

# %%
# One command makes both::
#
#     ctapipe-explain-gammaphysnet --model lst_demonstration.safetensors \
#         --input gamma.dl1.h5 --output-dir explanation \
#         --best 1 --worst 1 --random 0 --statistics
#
# ``--best`` and ``--worst`` choose images of gamma rays by the error of their
# directions; ``--statistics`` adds where the heatmaps of all images lie.

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import AltAz
from ctapipe.coordinates import TelescopeFrame
from ctapipe.core import run_tool
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import EventSource, read_table
from ctapipe.visualization import CameraDisplay

from ctapipe_gammaphysnet.tools.explain import ExplainGammaPhysNet

examples = Path("../../examples").resolve()
model = examples / "data/lst_demonstration.safetensors"
output = Path(tempfile.mkdtemp()) / "explanation"

size = os.environ.get("TUTORIALS", "full")  # or small, to see that everything runs
cards, cache = Path("cards", size), Path("cache", size).resolve()
samples = {name: cache / f"{name}.dl1.h5" for name in ["gamma"]}
wanted = [cards / f"{name}.airshower.yaml" for name in samples]
simulate = examples / "simulation/simulate.py"  # what is missing
subprocess.run([sys.executable, simulate, *wanted, f"--output-dir={cache}"], check=True)

run_tool(
    ExplainGammaPhysNet(),
    argv=[
        f"--model=demonstration={model}",
        f"--input={samples['gamma']}",
        f"--output-dir={output}",
        "--best=1",
        "--worst=1",
        "--random=0",
        "--statistics",
        "--no-progress",
        "--log-level=WARN",
    ],
)

# %%
# The folder has a figure of each image, and everything that is in the figures as
# tables:

results = output / "explanation.h5"
camera = SubarrayDescription.from_hdf(results).tel[1].camera.geometry
events = read_table(results, "/events")
maps = read_table(results, "/maps/demonstration/LST_LST_LSTCam")
events.round(3)
events["chosen", "obs_id", "event_id", "tel_id", "true_energy", "intensity", "leakage"]

# %%
# Two images
# ----------
#
# A heatmap has the unit of its output, and shows what *raises* it: what lowers it is
# cut off, by the definition of Grad-CAM. The attention of each stage of the network
# multiplies pixels by 1 to 2; the last column is the product over all stages.

frame = TelescopeFrame(telescope_pointing=AltAz(alt=70 * u.deg, az=180 * u.deg))
camera = camera.transform_to(frame)
columns = {
    "energy_mean": "raises the energy / log10(E / TeV)",
    "class_mean": "raises the gammaness / score",
    "product_mean": "attention / factor",
}

with EventSource(samples["gamma"]) as source:
    wanted = {(row["obs_id"], row["event_id"]): row["tel_id"] for row in events}
    images = {}
    for event in source:
        key = (event.index.obs_id, event.index.event_id)
        if key in wanted:
            images[key] = event.dl1.tel[wanted[key]].image

fig, axes = plt.subplots(
    len(events), 4, figsize=(13, 3.2 * len(events)), layout="constrained"
)
for row, event, its_maps in zip(axes, events, maps, strict=True):
    image = images[event["obs_id"], event["event_id"]]
    panels = {"charge / p.e.": image}
    panels |= {label: its_maps[name] for name, label in columns.items()}
    for ax, (label, values) in zip(row, panels.items(), strict=True):
        display = CameraDisplay(camera, values, ax=ax, show_frame=False, title="")
        display.add_colorbar(label=label, ax=ax)
        ax.set(xlabel="", ylabel="")
    chosen = event["chosen"].removesuffix("1")
    row[0].set_title(f"{chosen} direction: {event['true_energy']:.2g} TeV")
plt.show()

# %%
# All images
# ----------
#
# Two images prove nothing. For all of them: which share of the heatmap lies in pixels
# with light of the shower, and which at the camera's edge, in the two outermost rings?
# A heatmap that is the same everywhere has the share of the camera's area that these
# pixels have, the gray marks.

summary = read_table(results, "/statistics/summary/overall")
outputs = list(dict.fromkeys(summary["output"]))
fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
for shift, statistic, label in (
    (-0.15, "share_true", "in pixels with light of the shower"),
    (0.15, "share_edge", "at the camera's edge"),
):
    rows = summary[summary["statistic"] == statistic]
    x = np.arange(len(rows)) + shift
    ax.bar(x, rows["mean"], width=0.3, label=label)
    ax.plot(x, rows["area"], "_", color="gray", markersize=18, markeredgewidth=3)
ax.set_xticks(np.arange(len(outputs)), outputs)
ax.set(ylabel="share of the heatmap")
ax.set_title(f"{summary['n_events'][0]} images, {size} sample")
fig.legend(loc="outside lower center", ncols=2)
plt.show()

# %%
# ``fov_lon`` and ``fov_lat`` are the direction, ``impact_x`` and ``impact_y`` the
# impact point. A model with several members also tells how much they agree, and
# ``--robustness`` how predictions move when images are disturbed: see
# :doc:`/guide/explain`.
