"""Train γ-PhysNet on simulated DL1 images."""

import json
import os
import platform
import sys
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from ctapipe.core import Provenance, Tool, ToolConfigurationError, traits
from ctapipe.instrument import SubarrayDescription
from traitlets import default

from ..instrument import check_alike, describe_telescope
from ..model_card import MemberCard, ModelCard, NetworkCard
from ..model_file import Model, write_model
from ..network import CameraLattice, NetworkConfig
from ..quality import TrainingQualityQuery
from ..training.augmentation import Augmentation
from ..training.index import EventIndex, TrainingDataError, check_file, read_index
from ..training.members import add_members, locked
from ..training.recipe import InputTransformation, Recipe
from ..training.records import describe_epoch, plot_histories, summarise
from ..training.showers import is_for_validation
from .command_line import expand, repeat_options
from .extras import require_extra

__all__ = ["TrainGammaPhysNet", "main"]

#: What the networks are to say of the files' particles.
LABELS = {"signal": 0, "background": 1}


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

    Go on after an interruption, with the same options:

    > ctapipe-train-gammaphysnet --resume --signal gamma.dl1.h5 \\
        --background proton.dl1.h5 --output model.safetensors

    Train on four GPUs, and add a member to a model:

    > ctapipe-train-gammaphysnet --device cuda --devices 4 --seeds 6 --add-members \\
        --signal 'gamma_*.dl1.h5' --background 'proton_*.dl1.h5' \\
        --output model.safetensors
    """

    signal = traits.List(
        traits.Unicode(),
        help=(
            "DL1 files of simulated gammas, with images, parameters and truth: one or"
            " more, or patterns such as ``'gamma_*.dl1.h5'``."
        ),
    ).tag(config=True)

    background = traits.List(
        traits.Unicode(),
        help=(
            "DL1 files of simulated background, usually protons: one or more, or"
            " patterns."
        ),
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

    devices = traits.Int(
        1,
        min=1,
        help=(
            "Number of GPUs of each node, or of processes on a CPU, that share each"
            " batch. Under torchrun or Slurm it is the number of processes per node."
        ),
    ).tag(config=True)

    nodes = traits.Int(1, min=1, help="Number of nodes, under torchrun or Slurm.").tag(
        config=True
    )

    precision = traits.CaselessStrEnum(
        ["float32", "bfloat16"],
        default_value="float32",
        help=(
            "Precision of the convolutions; weights stay in float32. ``bfloat16`` is"
            " meant for GPUs and for CPUs with AMX."
        ),
    ).tag(config=True)

    n_jobs = traits.Int(
        None,
        min=1,
        allow_none=True,
        help="Number of threads; default: one for each core.",
    ).tag(config=True)

    resume = traits.Bool(
        False,
        help=(
            "Go on with trainings that were interrupted, from their last checkpoints in"
            " the folder beside the output that ends in ``.training``. The result is"
            " that of a training that was not interrupted."
        ),
    ).tag(config=True)

    add_members = traits.Bool(
        False,
        help=(
            "Add the members to the output if it exists. Several trainings of different"
            " seeds, on different GPUs, can add to one file at the same time."
        ),
    ).tag(config=True)

    tensorboard = traits.Bool(
        False, help="Write a log for TensorBoard beside the checkpoints, too."
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
        "epochs": "Recipe.epochs",
        "batch-size": "Recipe.batch_size",
        "device": "TrainGammaPhysNet.device",
        "devices": "TrainGammaPhysNet.devices",
        "nodes": "TrainGammaPhysNet.nodes",
        "precision": "TrainGammaPhysNet.precision",
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
        "resume": (
            {"TrainGammaPhysNet": {"resume": True}},
            "Go on with a training that was interrupted",
        ),
        "add-members": (
            {"TrainGammaPhysNet": {"add_members": True}},
            "Add the members to the output if it exists",
        ),
        "tensorboard": (
            {"TrainGammaPhysNet": {"tensorboard": True}},
            "Write a log for TensorBoard",
        ),
        "overwrite": (
            {"TrainGammaPhysNet": {"overwrite": True}},
            "Replace the output file, and checkpoints, if they exist",
        ),
    }

    classes = [TrainingQualityQuery, Recipe, InputTransformation, Augmentation]

    @default("log_level")
    def _default_log_level(self):
        # Who trains for hours wants to see how it goes.
        return "INFO"

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
        require_extra("train", "lightning", "matplotlib")
        if self.tensorboard:
            require_extra("train", "tensorboard")
        # Only now: help and complaints must not wait for torch.
        from ..predictor import set_threads

        self.is_first_process = _process_number() == 0
        self._find_files()
        self._check_options()
        self.recipe = Recipe(parent=self)
        for task in self.recipe.task_weights.keys() ^ set(self.tasks):
            if self.recipe.task_weights:
                raise ToolConfigurationError(
                    f"Recipe.task_weights must have one weight for each task: {task} "
                    "is missing, or is not trained"
                )
        try:
            self.network_config = NetworkConfig(
                blocks=self.blocks,
                channels=tuple(self.channels),
                hidden=self.hidden,
                attention=self.attention,
                attention_ratio=self.attention_ratio,
                tasks=tuple(self.tasks),
            )
            self.hardware = self._choose_hardware()
            set_threads(self.n_jobs)
        except ValueError as error:
            raise ToolConfigurationError(str(error)) from error
        self._collect_telescopes()
        self._check_outputs()

    def _find_files(self):
        """Files of signal, and of background where the class is learnt."""
        # Without the class there is nothing to learn from background.
        options = ["signal", "background"] if "class" in self.tasks else ["signal"]
        files = {}
        for option in options:
            patterns = getattr(self, option)
            if not patterns:
                raise ToolConfigurationError(f"give at least one file: --{option} FILE")
            files[option] = [path for p in patterns for path in expand(p)]
        self.paths = [path for paths in files.values() for path in paths]
        self.labels = [LABELS[o] for o, paths in files.items() for _ in paths]
        for path, count in Counter(p.resolve() for p in self.paths).items():
            if count > 1:
                raise ToolConfigurationError(f"{path} is given {count} times")

    def _check_options(self):
        if len(set(self.seeds)) < len(self.seeds):
            raise ToolConfigurationError(f"seeds must differ, got {self.seeds}")
        if self.output_path is None:
            raise ToolConfigurationError("give the model file to write: --output FILE")
        if not os.access(self.output_path.parent, os.W_OK):
            raise ToolConfigurationError(
                f"cannot write into {self.output_path.parent}, the folder of the output"
            )

    def _choose_hardware(self):
        from ..predictor import select_device
        from ..training.fit import Hardware

        if self.recipe.batch_size < self.devices * self.nodes:
            raise ToolConfigurationError(
                f"a batch of {self.recipe.batch_size} images cannot be shared by "
                f"{self.devices * self.nodes} processes: raise Recipe.batch_size"
            )
        device = select_device(self.device)
        return Hardware(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=self.devices if device.index is None else [device.index],
            nodes=self.nodes,
            precision=self.precision,
        )

    def _collect_telescopes(self):
        """Find the telescope types; each must be in all files, and the same there."""
        names, arrays = {}, {}
        for path in self.paths:
            check_file(path)
            Provenance().add_input_file(path, role="DL1 images for training")
            subarray = SubarrayDescription.from_hdf(
                path, focal_length_choice="EQUIVALENT"
            )
            arrays[path] = subarray
            names |= dict.fromkeys(sorted(map(str, subarray.telescope_types)))
        self.telescopes = {}
        for name in self.telescope_types or names:
            for path, subarray in arrays.items():
                types = set(map(str, subarray.telescope_types))
                if name not in types:
                    raise ToolConfigurationError(
                        f"{path} has no telescopes of type {name}, only "
                        f"{', '.join(sorted(types))}: leave out the file, or choose "
                        "the types to train for with --telescope-types"
                    )
            self.telescopes[name] = check_alike(arrays, name)

    @property
    def training_dir(self):
        """Folder of checkpoints, histories and curves."""
        return self.output_path.with_suffix(".training")

    def _check_outputs(self):
        """Never lose a model or a checkpoint that the user did not give up."""
        checkpoints = [
            paths.checkpoint
            for name in self.telescopes
            for paths in [self._paths_of(name, seed) for seed in self.seeds]
            if paths.checkpoint.exists()
        ]
        if not self.is_first_process:
            return
        if self.overwrite:
            for checkpoint in checkpoints:
                checkpoint.unlink()
        elif checkpoints and not self.resume:
            raise ToolConfigurationError(
                f"{checkpoints[0]} is of a training that was interrupted: go on with "
                "--resume, or start anew with --overwrite"
            )
        # An interrupted training has written what it had.
        if not (self.add_members or (self.resume and checkpoints)):
            self.check_output(self.output_path)
        self.training_dir.mkdir(exist_ok=True)

    def _paths_of(self, name, seed):
        from ..training.checkpoint import Paths

        stem = f"{name}_seed{seed}"
        return Paths(
            checkpoint=self.training_dir / f"{stem}.ckpt",
            history=self.training_dir / f"{stem}.csv",
            tensorboard=self.training_dir / "tensorboard" if self.tensorboard else None,
        )

    def start(self):
        """Find the images of all telescope types, then train all their members."""
        prepared = {name: self._prepare(name) for name in self.telescopes}
        self.networks, self.histories = [], {}
        self.interrupted = False
        for name, (data, settings) in prepared.items():
            self._train_telescope(name, data, settings)

    def _prepare(self, name):
        """What the networks of a telescope type are trained on, and all settings."""
        from ..training.describe import describe_data, digest
        from ..training.fit import TrainingSet

        query = TrainingQualityQuery(parent=self)
        index = EventIndex.concatenate(
            [
                read_index(path, number, name, label, query)
                for number, (path, label) in enumerate(
                    zip(self.paths, self.labels, strict=True)
                )
            ]
        )
        selection = query.to_table(functions=True)
        self.log.info("Selection of images of %s:\n%s", name, selection)
        kept = is_for_validation(index.shower, self.validation_fraction)
        training, validation = index.select(~kept), index.select(kept)
        counts = np.bincount(training.label, minlength=2)
        if counts[: len(set(self.labels))].min() == 0:
            raise TrainingDataError(
                f"{name}: {counts[0]} images of signal and {counts[1]} of background "
                "are left for training. Leave this telescope type out "
                "(--telescope-types), or give more files. Counts of the selection:\n"
                f"{selection}"
            )
        n_processes = self.devices * self.nodes
        if 0 < len(validation) < n_processes:
            raise TrainingDataError(
                f"{name}: {len(validation)} images for validation are fewer than the "
                f"{n_processes} processes that share them: raise "
                "TrainGammaPhysNet.validation_fraction, or set it to 0"
            )
        geometry = self.telescopes[name].camera.geometry
        augmentation = Augmentation(geometry=geometry, parent=self)
        settings = {
            "recipe": _traits_of(self.recipe),
            "augmentation": _traits_of(augmentation),
            "precision": self.precision,
            "files": {
                option: [
                    path.name
                    for path, label in zip(self.paths, self.labels, strict=True)
                    if label == value
                ]
                for option, value in LABELS.items()
            },
            "selection": [
                f"{row['criteria']} ({row['func']}): {row['cumulative_counts']}"
                for row in selection
            ],
            "validation fraction of showers": self.validation_fraction,
        }
        card = NetworkCard(
            telescope=describe_telescope(self.telescopes[name]),
            network=self.network_config,
            input=InputTransformation(parent=self).card(),
            training=settings | describe_data(self.paths, training, validation),
            members=tuple(MemberCard(seed=seed) for seed in self.seeds),
        )
        data = TrainingSet(
            paths=self.paths,
            training=training,
            validation=validation,
            card=card,
            lattice=CameraLattice.from_geometry(geometry),
            augmentation=augmentation,
        )
        settings |= {
            "network": card.network.model_dump(mode="json"),
            "input": card.input.model_dump(mode="json"),
            "images": digest([training.shower.tolist(), training.row.tolist()]),
        }
        return data, settings

    def _train_telescope(self, name, data, settings):
        """Train the members of one telescope type."""
        from ..training.fit import fit

        members, weights = [], []
        for seed in self.seeds:
            if self.interrupted:
                break
            self.log.info(
                "Training %s, seed %d, on %d images", name, seed, len(data.training)
            )
            trained, history, complete = fit(
                data,
                self.recipe,
                seed,
                self.hardware,
                self._paths_of(name, seed),
                settings,
                self._report,
                self.progress_bar,
            )
            self.interrupted = not complete
            self.histories[f"{name} seed {seed}"] = history
            results = {
                "complete": complete,
                "epochs": len(history),
                # A card has no infinite numbers.
                "after the last epoch": {
                    figure: value if np.isfinite(value) else None
                    for figure, value in (history[-1] if history else {}).items()
                },
            }
            members.append(MemberCard(seed=seed, training=results))
            weights.append(trained)
        if members:
            card = data.card.model_copy(update={"members": tuple(members)})
            self.networks.append((card, tuple(weights)))

    def _report(self, figures):
        """Log the figures after an epoch."""
        self.log.info("After the epoch:\n%s", describe_epoch(figures))

    def finish(self):
        """Write the model file, the curves and the summary."""
        if not self.is_first_process:
            return
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
        self._write(Model(card, weights))
        plot_histories(self.histories, self.training_dir / "curves.png")
        summary = "\n".join(summarise(self.histories).pformat(max_width=-1))
        self.log.info("Validation after the last epoch:\n%s", summary)
        if self.interrupted:
            self.log.warning(
                "Interrupted: %s has what was trained so far. Go on with --resume",
                self.output_path,
            )
            return
        for name in self.telescopes:
            for seed in self.seeds:
                self._paths_of(name, seed).checkpoint.unlink(missing_ok=True)

    def _write(self, model):
        try:
            if self.add_members:
                with locked(self.output_path):
                    if self.output_path.exists():
                        model = add_members(self.output_path, model)
                    write_model(self.output_path, model, overwrite=True)
            else:
                write_model(
                    self.output_path, model, overwrite=self.overwrite or self.resume
                )
        except ValueError as error:
            raise ToolConfigurationError(str(error)) from error
        Provenance().add_output_file(
            self.output_path, role="γ-PhysNet model", add_meta=False
        )
        self.log.info("Wrote %s", self.output_path)


def _traits_of(component):
    """Configuration of a component, as JSON values."""
    traits_of = {n: getattr(component, n) for n in component.trait_names(config=True)}
    return json.loads(json.dumps(traits_of))


def _process_number():
    """Number of this process among those that share batches."""
    from lightning.pytorch.utilities import rank_zero_only

    return rank_zero_only.rank or 0


def main():
    """Run the tool."""
    TrainGammaPhysNet().run()


if __name__ == "__main__":
    main()
