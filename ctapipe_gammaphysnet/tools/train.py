"""Train γ-PhysNet on simulated DL1 images."""

import glob
import json
import platform
import secrets
import signal
import sys
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from ctapipe.core import Provenance, ToolConfigurationError, traits
from tqdm.auto import tqdm

from ..drawing import check_drawing
from ..instrument import check_alike, describe_telescope
from ..locks import locked
from ..model_card import MemberCard, ModelCard, NetworkCard
from ..model_file import Model, ModelFileError, read_card, write_model
from ..network import CameraLattice, NetworkConfig, parameter_shapes
from ..output import OutputError, real_path
from ..output import check_file as check_output_file
from ..paths import FilePath, Names, find_files, refuse_same_files
from ..quality import TrainingQualityQuery
from ..training.augmentation import Augmentation
from ..training.index import EventIndex, TrainingDataError, check_file, read_index
from ..training.members import add_members, check_alike_training, complete_seeds
from ..training.recipe import InputTransformation, Recipe
from ..training.records import describe_epoch, plot_histories, summarise
from ..training.showers import is_for_validation
from ..training.traits import FiniteFloat
from .base import GammaPhysNetTool
from .extras import require_modules

__all__ = ["TrainGammaPhysNet", "main"]

#: What the networks are to say of the files' particles.
LABELS = {"signal": 0, "background": 1}


class TrainGammaPhysNet(GammaPhysNetTool):
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

    signal = Names(
        help=(
            "DL1 files of simulated gammas, with images, parameters and truth: one or"
            " more, or patterns such as ``'gamma_*.dl1.h5'``."
        ),
    ).tag(config=True)

    background = Names(
        help=(
            "DL1 files of simulated background, usually protons: one or more, or"
            " patterns."
        ),
    ).tag(config=True)

    output_path = FilePath(
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

    validation_fraction = FiniteFloat(
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

    def setup(self):
        """Check all that can be checked before anything is trained."""
        require_modules("lightning", "matplotlib")
        check_drawing()
        if self.tensorboard:
            require_modules("tensorboard")
        # Only now: help and complaints must not wait for torch.
        from ..predictor import set_threads
        from ..training.fit import check_environment

        self._find_files()
        self._check_options()
        self.recipe = Recipe(parent=self)
        self._check_recipe()
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
            self.is_first_process = check_environment(self.hardware) == 0
            set_threads(self.n_jobs)
        except ValueError as error:
            raise ToolConfigurationError(str(error)) from error
        self._collect_telescopes()
        #: Telescope type and seed of each member.
        self.members = [(name, seed) for name in self.telescopes for seed in self.seeds]
        self.has_all = self.resume and self._has_all_members()
        if self.is_first_process and not self.has_all:
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
            files[option] = [path for p in patterns for path in find_files(p)]
        self.paths = [path for paths in files.values() for path in paths]
        self.labels = [LABELS[o] for o, paths in files.items() for _ in paths]
        refuse_same_files(self.paths)

    def _check_options(self):
        if len(set(self.seeds)) < len(self.seeds):
            raise ToolConfigurationError(f"seeds must differ, got {self.seeds}")
        if self.output_path is None:
            raise ToolConfigurationError("give the model file to write: --output FILE")
        if self.resume and self.overwrite:
            raise ToolConfigurationError(
                "--resume goes on with a training, --overwrite starts it anew: give one"
            )
        check_output_file(self.output_path, self.paths)

    def _check_recipe(self):
        """Refuse what cannot be meant; Recipe knows its settings one by one."""
        recipe = self.recipe
        for task in recipe.task_weights.keys() ^ set(self.tasks):
            if recipe.task_weights:
                raise ToolConfigurationError(
                    f"Recipe.task_weights must have one weight for each task: {task} "
                    "is missing, or is not trained"
                )
        if recipe.signal_fraction is not None and "class" not in self.tasks:
            raise ToolConfigurationError(
                "Recipe.signal_fraction does nothing without background: leave it out, "
                "or add 'class' to TrainGammaPhysNet.tasks"
            )
        if recipe.patience is None:
            return
        if self.validation_fraction == 0:
            raise ToolConfigurationError(
                "Recipe.patience needs validation images: raise "
                "TrainGammaPhysNet.validation_fraction, or leave out the patience"
            )
        if recipe.patience >= recipe.epochs:
            self.log.warning(
                "Recipe.patience=%d ends no training of %d epochs",
                recipe.patience,
                recipe.epochs,
            )
        elif recipe.schedule != "step":
            self.log.warning(
                "Recipe.patience may end the training before the learning rate has "
                "fallen as Recipe.schedule=%s has it",
                recipe.schedule,
            )

    def _choose_hardware(self):
        from ..predictor import check_engine, select_device
        from ..training.fit import Hardware

        if self.recipe.batch_size < self.devices * self.nodes:
            raise ToolConfigurationError(
                f"a batch of {self.recipe.batch_size} images cannot be shared by "
                f"{self.devices * self.nodes} processes: raise Recipe.batch_size"
            )
        device = select_device(self.device)
        if device.index is not None and self.devices > 1:
            raise ToolConfigurationError(
                f"--device {self.device} is one device, but --devices is "
                f"{self.devices}: leave out its number"
            )
        check_engine("lattice", device)
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
            subarray = check_file(path)
            Provenance().add_input_file(path, role="DL1 images for training")
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
        name = self.output_path.name.removesuffix(".safetensors")
        return self.output_path.with_name(f"{name}.training")

    @property
    def _curves_path(self):
        return self.training_dir / "curves.png"

    def _has_all_members(self):
        """Tell whether the file has all members, as for a job that is run again."""
        if any(self._paths_of(*member).checkpoint.exists() for member in self.members):
            return False
        return self._complete_members().issuperset(self.members)

    def _complete_members(self):
        """Telescope types and seeds of the members in the output, if it is a model."""
        try:
            networks = read_card(self.output_path).networks
        except ModelFileError:
            return set()
        return {(n.telescope.type, s) for n in networks for s in complete_seeds(n)}

    def _check_outputs(self):
        """Never lose a file that the user did not give up."""
        self._make_training_dir()
        self._check_plain_files()
        if self.add_members:
            self._try_lock()
        for name, seed in self.members:
            self._claim(name, seed)
        checkpoints = {
            self._paths_of(*member).checkpoint: member
            for member in self.members
            if self._paths_of(*member).checkpoint.exists()
        }
        #: Seeds of members that go on, or were trained to the end but not written.
        self.resumed = {seed for _, seed in checkpoints.values()}
        if self.overwrite:
            for checkpoint in checkpoints:
                checkpoint.unlink()
        elif checkpoints and not self.resume:
            raise ToolConfigurationError(
                f"{next(iter(checkpoints))} is of a training that was interrupted: go "
                "on with --resume, or start anew with --overwrite"
            )
        elif checkpoints and not self.add_members:
            self._check_no_member_is_left_out(checkpoints)
            self._check_no_member_is_lost()
        # An interrupted training has written what it had.
        if not (self.add_members or (self.resume and checkpoints)):
            self.check_output(self.output_path)
        if not self.overwrite:
            self._check_no_record_is_lost(checkpoints)

    def _make_training_dir(self):
        try:
            self.training_dir.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise ToolConfigurationError(
                f"{self.training_dir} is no folder, but the checkpoints of "
                f"{self.output_path} go into a folder of this name: move it, or choose "
                "another output"
            ) from error
        except OSError as error:
            raise ToolConfigurationError(
                f"{self.training_dir}, the folder of checkpoints, cannot be made: "
                f"{error.strerror}"
            ) from error

    def _check_plain_files(self):
        """Refuse what cannot be replaced in the folder of checkpoints."""
        check_output_file(self._curves_path, self.paths)
        for member in self.members:
            paths = self._paths_of(*member)
            check_output_file(paths.checkpoint, self.paths)
            check_output_file(paths.history, self.paths)

    def _check_no_record_is_lost(self, checkpoints):
        """Figures and curves that are there must be of the trainings that go on."""
        # A member that is in the output already is refused with better words.
        going_on = {*checkpoints.values(), *self._complete_members()}
        records = [
            self._paths_of(*member).history
            for member in self.members
            if member not in going_on
        ]
        # Whoever adds a member draws its curves anew.
        if not (checkpoints or self.add_members):
            records.append(self._curves_path)
        for path in records:
            if path.exists():
                raise ToolConfigurationError(
                    f"{path} exists, but is of no training that goes on: move it, or "
                    "replace it with --overwrite"
                )

    def _check_no_member_is_left_out(self, checkpoints):
        """The model is written anew: with the members that it had."""
        others = set(self.training_dir.glob("*_seed*.ckpt")) - set(checkpoints)
        if others:
            raise ToolConfigurationError(
                f"{min(others)} is of the same interrupted training, but neither "
                "--seeds nor --telescope-types ask for it: give all, or remove it"
            )

    def _check_no_member_is_lost(self):
        """The model is written anew: whatever is in the file must be trained."""
        if not self.output_path.exists():
            return
        try:
            networks = read_card(self.output_path).networks
        except ModelFileError as error:
            raise OutputError(
                f"{error}. --resume does not replace it: move it, or choose another "
                "output"
            ) from error
        lost = [
            f"seed {member.seed} of {network.telescope.type}"
            for network in networks
            for member in network.members
            if (network.telescope.type, member.seed) not in self.members
        ]
        if lost:
            raise OutputError(
                f"{self.output_path} has members that are not trained here: "
                f"{', '.join(lost)}. Keep them with --add-members, or move the file"
            )

    def _try_lock(self):
        """Find out now whether members can be added at the end."""
        try:
            with locked(real_path(self.output_path), wait=False):
                pass
        except BlockingIOError:
            # Others add theirs: there are locks.
            pass
        except OSError as error:
            raise ToolConfigurationError(
                f"--add-members locks {self.output_path}, but files in its folder "
                f"cannot be locked ({error.strerror}): choose an output on another "
                "disk, or train all members in one run, without --add-members"
            ) from error

    def _claim(self, name, seed):
        """Keep other processes from training the same member, to the end of this."""
        checkpoint = self._paths_of(name, seed).checkpoint
        try:
            self.enter_context(locked(checkpoint, wait=False))
        except BlockingIOError as error:
            raise ToolConfigurationError(
                f"another process trains seed {seed} of {name} for {self.output_path}: "
                "wait for it, or choose other seeds. Processes that are to share the "
                "work need --devices and --nodes"
            ) from error
        except OSError as error:
            self.log.warning(
                "Files in %s cannot be locked (%s): do not train the same seed twice "
                "at the same time",
                self.training_dir,
                error.strerror,
            )
            return
        for unfinished in self.training_dir.glob(
            f"{glob.escape(checkpoint.stem)}.*.part"
        ):
            # Of a process that was killed while it wrote.
            unfinished.unlink()

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
        self.networks, self.histories = [], {}
        #: Number of the signal, or the error, that ended the training too early.
        self.interrupted = self.failure = None
        prepared = {name: self._prepare(name) for name in self.telescopes}
        cards = [data.card for data, _ in prepared.values()]
        if self.has_all:
            self._check_same_training(cards)
            self.log.info(
                "%s is complete, it has all these members: nothing is left to train",
                self.output_path,
            )
            return
        self._check_checkpoints(prepared)
        if self.is_first_process:
            self._try_to_write(cards)
        for name, (data, settings) in prepared.items():
            if self.interrupted is None and self.failure is None:
                self._train_telescope(name, data, settings)

    def _check_same_training(self, cards):
        """Members in the file must be those that would be trained."""
        networks = read_card(self.output_path).networks
        old = {network.telescope.type: network for network in networks}
        try:
            for card in cards:
                check_alike_training(self.output_path, old[card.telescope.type], card)
        except ValueError as error:
            raise ToolConfigurationError(str(error)) from error

    def _check_checkpoints(self, prepared):
        """Check all before the first one is gone on with."""
        from ..training.checkpoint import check_resumable

        for name, (_, settings) in prepared.items():
            for seed in self.seeds:
                checkpoint = self._paths_of(name, seed).checkpoint
                if checkpoint.exists():
                    check_resumable(checkpoint, settings)

    def _try_to_write(self, cards):
        """Write a model as that at the end will be, and remove it."""
        weights = []
        for card in cards:
            shapes = parameter_shapes(card.network, card.telescope.camera)
            zeros = {
                name: np.zeros(
                    shape,
                    np.int64 if name.endswith("num_batches_tracked") else np.float32,
                )
                for name, shape in shapes.items()
            }
            weights.append((zeros,) * len(card.members))
        output = real_path(self.output_path)
        trial = output.with_name(f"trial.{secrets.token_hex(4)}.part")
        model = Model(self._card(cards), tuple(weights))
        try:
            if self.add_members and output.exists():
                model = add_members(output, model, self.resumed)
        except ValueError as error:
            raise ToolConfigurationError(
                f"these members cannot be added: {error}"
            ) from error
        try:
            write_model(trial, model)
        except ValueError as error:
            raise ToolConfigurationError(
                f"{self.output_path} could not be written after the training: {error}"
            ) from error
        finally:
            trial.unlink(missing_ok=True)

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
        self._check_validation(name, validation)
        n_processes = self.hardware.n_processes
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

    def _check_validation(self, name, validation):
        """Early stopping must know what gets better; else one should know."""
        counts = np.bincount(validation.label, minlength=2)[: len(set(self.labels))]
        if self.validation_fraction == 0 or counts.min() > 0:
            return
        problem = (
            f"{name}: of {len(validation)} images for validation, {counts[0]} are of "
            "signal" + (f" and {counts[1]} of background" if len(counts) > 1 else "")
        )
        if self.recipe.patience is not None:
            raise TrainingDataError(
                f"{problem}: Recipe.patience needs them. Raise "
                "TrainGammaPhysNet.validation_fraction, or leave out the patience"
            )
        self.log.warning("%s", problem)

    def _train_telescope(self, name, data, settings):
        """Train the members of one telescope type, until something ends it."""
        from ..training.fit import fit

        progress = self.log.info if self.shows_progress else None
        members, weights = [], []
        for seed in self.seeds:
            self.log.info(
                "Training %s, seed %d, on %d images", name, seed, len(data.training)
            )
            try:
                trained, history, self.interrupted = fit(
                    data,
                    self.recipe,
                    seed,
                    self.hardware,
                    self._paths_of(name, seed),
                    settings,
                    self._report,
                    progress,
                )
            except ToolConfigurationError as error:
                # Not yet raised: members that were trained before are written.
                self.failure = error
                break
            self.histories[f"{name} seed {seed}"] = history
            results = {
                "complete": self.interrupted is None,
                "epochs": len(history),
                # A card has no infinite numbers.
                "after the last epoch": {
                    figure: value if np.isfinite(value) else None
                    for figure, value in (history[-1] if history else {}).items()
                },
            }
            members.append(MemberCard(seed=seed, training=results))
            weights.append(trained)
            if self.interrupted is not None:
                break
        if members:
            card = data.card.model_copy(update={"members": tuple(members)})
            self.networks.append((card, tuple(weights)))

    def _report(self, figures):
        """Log the figures after an epoch, above the progress bar if there is one."""
        with tqdm.external_write_mode(sys.stderr):
            self.log.info("After the epoch:\n%s", describe_epoch(figures))

    def finish(self):
        """Write the model file; then the curves and the summary."""
        # Members are added for all telescope types of a file, or not yet.
        is_whole = len(self.networks) == len(self.telescopes)
        writes = self.networks and (is_whole or not self.add_members)
        if self.is_first_process and writes:
            self._write_results()
        if self.failure is not None:
            raise self.failure
        if self.interrupted is not None:
            self.log.warning(
                "Interrupted: %s has %s. Go on with %s",
                self.output_path if writes else self.training_dir,
                "what was trained so far" if writes else "the checkpoints",
                "--resume --add-members" if self.add_members else "--resume",
            )
            # The exit status of a process that the signal ended.
            if self.interrupted == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + self.interrupted)

    def _write_results(self):
        cards, weights = zip(*self.networks, strict=True)
        self._write(Model(self._card(cards), weights))
        if self.interrupted is None and self.failure is None:
            for name in self.telescopes:
                for seed in self.seeds:
                    self._paths_of(name, seed).checkpoint.unlink(missing_ok=True)
        try:
            plot_histories(self.histories, self._curves_path)
        except Exception as error:
            # The model and the figures (CSV) are there, whatever a drawing needs.
            self.log.warning("The curves could not be drawn: %s", error)
        summary = "\n".join(summarise(self.histories).pformat(max_width=-1))
        self.log.info("Validation after the last epoch:\n%s", summary)

    def _card(self, cards):
        """Model card of networks."""
        packages = ("ctapipe_gammaphysnet", "ctapipe", "torch", "lightning", "numpy")
        return ModelCard(
            note=self.note,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            software={
                "python": platform.python_version(),
                **{package: version(package) for package in packages},
            },
            networks=tuple(cards),
        )

    def _write(self, model):
        output = real_path(self.output_path)
        try:
            if self.add_members:
                with locked(output):
                    if output.exists():
                        model = add_members(output, model, self.resumed)
                    write_model(output, model, overwrite=True)
            else:
                if self.resume:
                    # Others may have added theirs meanwhile.
                    self._check_no_member_is_lost()
                write_model(output, model, overwrite=self.overwrite or self.resume)
        except (ValueError, OSError) as error:
            raise ToolConfigurationError(
                f"{error}. What was trained is kept in {self.training_dir}: when this "
                "is mended, the same command with --resume (without --overwrite) "
                "writes the model"
            ) from error
        Provenance().add_output_file(
            self.output_path, role="γ-PhysNet model", add_meta=False
        )
        self.log.info("Wrote %s", self.output_path)


def _traits_of(component):
    """Configuration of a component, as JSON values."""
    traits_of = {n: getattr(component, n) for n in component.trait_names(config=True)}
    return json.loads(json.dumps(traits_of))


def main():
    """Run the tool."""
    TrainGammaPhysNet().run()


if __name__ == "__main__":
    main()
