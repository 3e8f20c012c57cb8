"""Train γ-PhysNet on simulated DL1 images."""

import os
import platform
import sys
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from ctapipe.core import Provenance, Tool, ToolConfigurationError, traits
from ctapipe.instrument import SubarrayDescription

from ..instrument import check_telescope, describe_telescope
from ..model_card import InputCard, MemberCard, ModelCard, NetworkCard
from ..model_file import Model, ModelFileError, write_model
from ..network import CameraLattice, NetworkConfig
from ..quality import ImageQualityQuery
from ..training.dataset import Sample, TrainingDataError, check_file, read_sample
from ..training.recipe import Recipe
from .command_line import repeat_options
from .extras import require_extra

__all__ = ["TrainGammaPhysNet", "main"]


class TrainGammaPhysNet(Tool):
    """Train γ-PhysNet on DL1 images of simulated showers.

    For each telescope type one network per seed is trained, to tell gammas from
    background and to reconstruct the energy, direction and impact point of gammas. All
    go into one model file, for ``GammaPhysNetReconstructor``.
    """

    name = "ctapipe-train-gammaphysnet"
    description = __doc__
    examples = """
    Train γ-PhysNet DA, as in the paper, for all telescope types of the files:

    > ctapipe-train-gammaphysnet --signal gamma.dl1.h5 --background proton.dl1.h5 \\
        --output model.safetensors

    Train two members of a small network, on several files and one telescope type:

    > ctapipe-train-gammaphysnet --signal gamma_1.dl1.h5 gamma_2.dl1.h5 \\
        --background proton.dl1.h5 --output model.safetensors \\
        --telescope-types LST_LST_LSTCam --seeds 0 1 --blocks 3 --epochs 10
    """

    signal = traits.List(
        traits.Path(exists=True, directory_ok=False),
        help=(
            "DL1 files of simulated gammas, with images, parameters and truth: one or"
            " more."
        ),
    ).tag(config=True)

    background = traits.List(
        traits.Path(exists=True, directory_ok=False),
        help=("DL1 files of simulated background, usually protons: one or more."),
    ).tag(config=True)

    output_path = traits.Path(
        default_value=None,
        allow_none=True,
        directory_ok=False,
        help="Model file to write.",
    ).tag(config=True)

    telescope_types = traits.List(
        traits.Unicode(),
        help="Telescope types to train for, e.g. LST_LST_LSTCam. Default: all.",
    ).tag(config=True)

    seeds = traits.List(
        traits.Int(min=0, max=2**63 - 1),
        default_value=[0],
        minlen=1,
        maxlen=64,
        help="One member is trained from each of these seeds.",
    ).tag(config=True)

    blocks = traits.Int(
        9, min=1, help="Residual blocks per stage; 9 make the paper's ResNet-56."
    ).tag(config=True)

    channels = traits.List(
        traits.Int(min=1), [16, 32, 64], help="Feature channels of each stage."
    ).tag(config=True)

    hidden = traits.Int(256, min=1, help="Width of the fully connected layers.").tag(
        config=True
    )

    attention = traits.Bool(
        True, help="Dual attention after each stage: γ-PhysNet DA."
    ).tag(config=True)

    attention_ratio = traits.Int(
        16, help="Ratio of the bottleneck of squeeze-and-excitation."
    ).tag(config=True)

    tasks = traits.List(
        traits.CaselessStrEnum(["energy", "direction", "impact", "class"]),
        ["energy", "direction", "impact", "class"],
        help="What the network predicts.",
    ).tag(config=True)

    image = traits.CaselessStrEnum(
        ["raw", "cleaned"],
        default_value="raw",
        help=(
            "Which pixels the network sees: all, or those that survived the image"
            " cleaning. It is stored in the model file, and applied by everything that"
            " uses it."
        ),
    ).tag(config=True)

    validation_fraction = traits.Float(
        0.1,
        min=0,
        max=0.9,
        help="Share of the simulated showers kept for validation.",
    ).tag(config=True)

    note = traits.Unicode(
        "", help="Free text for the model card, such as what the model is for."
    ).tag(config=True)

    device = traits.Unicode(
        "auto", help="Where to compute: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``."
    ).tag(config=True)

    n_jobs = traits.Int(
        None,
        min=1,
        allow_none=True,
        help="Number of threads; default: one for each core.",
    ).tag(config=True)

    progress_bar = traits.Bool(True, help="Show progress bars.").tag(config=True)

    aliases = {
        "signal": "TrainGammaPhysNet.signal",
        "background": "TrainGammaPhysNet.background",
        ("o", "output"): "TrainGammaPhysNet.output_path",
        "telescope-types": "TrainGammaPhysNet.telescope_types",
        "seeds": "TrainGammaPhysNet.seeds",
        "blocks": "TrainGammaPhysNet.blocks",
        "channels": "TrainGammaPhysNet.channels",
        "hidden": "TrainGammaPhysNet.hidden",
        "tasks": "TrainGammaPhysNet.tasks",
        "image": "TrainGammaPhysNet.image",
        "epochs": "Recipe.epochs",
        "batch-size": "Recipe.batch_size",
        "device": "TrainGammaPhysNet.device",
        "n-jobs": "TrainGammaPhysNet.n_jobs",
    }

    flags = {
        **traits.flag(
            "attention",
            "TrainGammaPhysNet.attention",
            "Train γ-PhysNet DA, with dual attention",
            "Train γ-PhysNet without attention",
        ),
        **traits.flag(
            "progress",
            "TrainGammaPhysNet.progress_bar",
            "Show progress bars",
            "Show no progress bars",
        ),
        "overwrite": (
            {"TrainGammaPhysNet": {"overwrite": True}},
            "Replace the output file if it exists",
        ),
    }

    classes = [ImageQualityQuery, Recipe]

    def parse_command_line(self, argv=None):
        """Understand the command line, with several values for lists.

        Parameters
        ----------
        argv : list of str, optional
            The command line; that of the process by default.
        """
        argv = sys.argv[1:] if argv is None else argv
        names = (
            "signal",
            "background",
            "telescope_types",
            "seeds",
            "channels",
            "tasks",
        )
        lists = {f"--{name.replace('_', '-')}" for name in names}
        lists |= {f"--{type(self).__name__}.{name}" for name in names}
        super().parse_command_line(repeat_options(argv, lists))

    def setup(self):
        """Check all that can be checked before anything is trained."""
        if self.extra_args:
            raise ToolConfigurationError(f"not understood: {' '.join(self.extra_args)}")
        require_extra("train", "lightning")
        # Only now: help and complaints must not wait for torch.
        from ..predictor import select_device, set_threads

        self._check_options()
        self.recipe = Recipe(parent=self)
        try:
            self.network_config = NetworkConfig(
                blocks=self.blocks,
                channels=tuple(self.channels),
                hidden=self.hidden,
                attention=self.attention,
                attention_ratio=self.attention_ratio,
                tasks=tuple(self.tasks),
            )
            self.torch_device = select_device(self.device)
            set_threads(self.n_jobs)
        except ValueError as error:
            raise ToolConfigurationError(str(error)) from error
        self._collect_telescopes()

    def _check_options(self):
        needed = ["signal", "background"] if "class" in self.tasks else ["signal"]
        for option in needed:
            if not getattr(self, option):
                raise ToolConfigurationError(f"give at least one file: --{option} FILE")
        paths = [path.resolve() for path in self._files]
        for path, count in Counter(paths).items():
            if count > 1:
                raise ToolConfigurationError(f"{path} is given {count} times")
        if len(set(self.seeds)) < len(self.seeds):
            raise ToolConfigurationError(f"seeds must differ, got {self.seeds}")
        if self.output_path is None:
            raise ToolConfigurationError("give the model file to write: --output FILE")
        self.check_output(self.output_path)
        if not os.access(self.output_path.parent, os.W_OK):
            raise ToolConfigurationError(
                f"cannot write into {self.output_path.parent}, the folder of the output"
            )

    @property
    def _files(self):
        # Without the class there is nothing to learn from background.
        background = self.background if "class" in self.tasks else []
        return [*self.signal, *background]

    def _collect_telescopes(self):
        """Find the telescope types; each must be in all files, and the same there."""
        self.telescopes, types_of = {}, {}
        for path in self._files:
            check_file(path)
            Provenance().add_input_file(path, role="DL1 images for training")
            subarray = SubarrayDescription.from_hdf(
                path, focal_length_choice="EQUIVALENT"
            )
            types_of[path] = {str(t): t for t in subarray.telescope_types}
            for name, telescope in sorted(types_of[path].items()):
                if not self.telescope_types or name in self.telescope_types:
                    self.telescopes.setdefault(name, telescope)
        for name in self.telescope_types or self.telescopes:
            for path, types in types_of.items():
                if name not in types:
                    raise ToolConfigurationError(
                        f"{path} has no telescopes of type {name}, only "
                        f"{', '.join(sorted(types))}: leave out the file, or choose "
                        "the types to train for with --telescope-types"
                    )
                check_telescope(types[name], describe_telescope(self.telescopes[name]))

    def start(self):
        """Read the images of all telescope types, then train all their members."""
        prepared = {name: self._prepare(name) for name in self.telescopes}
        self.networks = [
            self._train_telescope(name, *images_and_card)
            for name, images_and_card in prepared.items()
        ]

    def _prepare(self, name):
        """Images for training and validation of a telescope type, and its card."""
        sample, selection = self._read(name)
        training, validation = sample.split(self.validation_fraction, seed=0)
        counts = np.bincount(training.label, minlength=2)
        needed = counts if "class" in self.tasks else counts[:1]
        if needed.min() == 0:
            raise TrainingDataError(
                f"{name}: {counts[0]} images of signal and {counts[1]} of background "
                "are left for training. Leave this telescope type out "
                "(--telescope-types), or give more files. Counts of the selection:\n"
                f"{selection}"
            )
        card = NetworkCard(
            telescope=describe_telescope(self.telescopes[name]),
            network=self.network_config,
            input=InputCard(image=self.image),
            training=self._describe_training(training, validation, selection),
            members=tuple(MemberCard(seed=seed) for seed in self.seeds),
        )
        return training, validation, card

    def _train_telescope(self, name, training, validation, card):
        """Card and weights of the networks of one telescope type."""
        from ..training.fit import fit

        geometry = self.telescopes[name].camera.geometry
        lattice = CameraLattice.from_geometry(geometry)
        members, weights = [], []
        for seed in self.seeds:
            self.log.info("Training %s on %d images", name, len(training))
            trained, history = fit(
                self.network_config,
                lattice,
                training,
                validation,
                self.recipe,
                seed,
                self.torch_device,
                self.progress_bar,
            )
            # A card has no infinite numbers.
            final = {
                figure: value if np.isfinite(value) else None
                for figure, value in (history[-1] if history else {}).items()
            }
            self.log.info("%s, seed %d: validation %s", name, seed, final)
            members.append(MemberCard(seed=seed, training={"validation": final}))
            weights.append(trained)
        return card.model_copy(update={"members": tuple(members)}), tuple(weights)

    def _read(self, name):
        """All images of a telescope type, and the table of their selection."""
        query = ImageQualityQuery(parent=self)
        samples = [
            read_sample(
                path, name, int(path not in self.signal), query, self.image == "cleaned"
            )
            for path in self._files
        ]
        return Sample.concatenate(samples), query.to_table(functions=True)

    def _describe_training(self, training, validation, selection):
        """What the model card says of how the networks of a type were trained."""
        gammas = training.label == 0
        energy = 10 ** training.energy[gammas]
        noise = training.noise[np.isfinite(training.noise)]
        return {
            "recipe": {
                name: getattr(self.recipe, name)
                for name in self.recipe.trait_names(config=True)
            },
            "signal": [path.name for path in self.signal],
            "background": [path.name for path in self.background],
            "selection": [
                f"{row['criteria']} ({row['func']}): {row['cumulative_counts']}"
                for row in selection
            ],
            "images": {
                "training signal": int(gammas.sum()),
                "training background": int((~gammas).sum()),
                "validation": len(validation),
            },
            "energy range of gammas / TeV": _range(energy),
            "pointing altitude range / deg": _range(training.pointing[:, 0]),
            "pointing azimuth range / deg": _range(training.pointing[:, 1]),
            "noise / p.e. (median over images)": (
                float(np.median(noise)) if len(noise) > 0 else None
            ),
        }

    def finish(self):
        """Write the model file."""
        cards, weights = zip(*self.networks, strict=True)
        packages = ("ctapipe_gammaphysnet", "ctapipe", "torch", "lightning", "numpy")
        card = ModelCard(
            note=self.note,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            software={
                "python": platform.python_version(),
                **{package: version(package) for package in packages},
            },
            networks=cards,
        )
        try:
            write_model(self.output_path, Model(card, weights), self.overwrite)
        except ModelFileError as error:
            raise ToolConfigurationError(str(error)) from error
        Provenance().add_output_file(
            self.output_path, role="γ-PhysNet model", add_meta=False
        )
        self.log.info("Wrote %s", self.output_path)


def _range(values):
    return [float(np.min(values)), float(np.max(values))]


def main():
    """Run the tool."""
    TrainGammaPhysNet().run()


if __name__ == "__main__":
    main()
