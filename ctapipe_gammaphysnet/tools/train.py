"""Train γ-PhysNet on simulated DL1 images."""

import signal
import sys
from datetime import UTC, datetime

from ctapipe.core import Provenance, ToolConfigurationError, traits
from pydantic import ValidationError
from tqdm.auto import tqdm

from ..configuration.traits import FiniteFloat, LimitedInt
from ..events.quality import TrainingQualityQuery
from ..files.output import check_file as check_output_file
from ..files.paths import Names, find_files, refuse_same_files
from ..model.card import MemberCard, ModelCard, NetworkCard
from ..model.file import Model
from ..model.telescope import describe_telescope
from ..network import CameraLattice, NetworkConfig
from ..tasks import TASKS, default_tasks
from ..training.augmentation import Augmentation
from ..training.describe import (
    describe_data,
    describe_results,
    describe_settings,
    describe_software,
    digest,
)
from ..training.index import check_file
from ..training.outputs import Outputs
from ..training.recipe import InputTransformation, Recipe
from ..training.records import describe_epoch, plot_histories, summarise
from ..training.sample import (
    check_batch_size,
    check_training,
    check_validation,
    common_telescopes,
    split_images,
)
from . import options
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

    output_path = options.output_path(help="Model file to write.").tag(config=True)

    telescope_types = options.telescope_types("train for").tag(config=True)

    seeds = traits.List(
        LimitedInt(min=0, max=2**63 - 1),
        default_value=[0],
        minlen=1,
        maxlen=64,
        help="One member is trained from each of these seeds.",
    ).tag(config=True)

    blocks = traits.Int(
        9, min=1, help="Residual blocks per stage; 9 make the paper's ResNet-56."
    ).tag(config=True)

    channels = traits.List(
        LimitedInt(min=1), [16, 32, 64], help="Feature channels of each stage."
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
        traits.CaselessStrEnum(TASKS),
        list(default_tasks()),
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

    device = options.device().tag(config=True)

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

    precision = options.precision(
        help=(
            "Precision of the convolutions; weights stay in float32. ``bfloat16`` is"
            " meant for GPUs and for CPUs with AMX."
        ),
    ).tag(config=True)

    n_jobs = options.n_jobs().tag(config=True)

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
        **options.switch(
            "resume",
            "TrainGammaPhysNet.resume",
            "Go on with a training that was interrupted",
        ),
        **options.switch(
            "add-members",
            "TrainGammaPhysNet.add_members",
            "Add the members to the output if it exists",
        ),
        **options.switch(
            "tensorboard",
            "TrainGammaPhysNet.tensorboard",
            "Write a log for TensorBoard",
        ),
        **options.switch(
            "overwrite",
            "TrainGammaPhysNet.overwrite",
            "Replace the output file, and checkpoints, if they exist",
        ),
    }

    classes = [TrainingQualityQuery, Recipe, InputTransformation, Augmentation]

    def setup(self):
        """Check all that can be checked before anything is trained."""
        require_modules("lightning", "matplotlib")
        if self.tensorboard:
            require_modules("tensorboard")
        # Only now: help and complaints must not wait for Lightning.
        from ..model.predictor import set_threads
        from ..training.hardware import check_environment, choose_hardware

        self._find_files()
        self._check_options()
        self.recipe = Recipe(parent=self)
        self.recipe.check(
            self.tasks, self.validation_fraction, self.devices * self.nodes
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
        except ValidationError as error:
            raise ToolConfigurationError(_describe(error)) from error
        self.hardware = choose_hardware(
            self.device, self.devices, self.nodes, self.precision
        )
        self.is_first_process = check_environment(self.hardware) == 0
        set_threads(self.n_jobs)
        self._collect_telescopes()
        self.outputs = Outputs(
            self.output_path,
            [(name, seed) for name in self.telescopes for seed in self.seeds],
            resume=self.resume,
            add_members=self.add_members,
            overwrite=self.overwrite,
            tensorboard=self.tensorboard,
        )
        self.has_all = self.resume and self.outputs.has_all()
        if self.is_first_process and not self.has_all:
            self._check_outputs()

    def _find_files(self):
        """Files of signal, and of background where the class is learnt."""
        # Without the class there is nothing to learn from background.
        options = ["signal", "background"] if "class" in self.tasks else ["signal"]
        self.files = {}
        for option in options:
            patterns = getattr(self, option)
            if not patterns:
                raise ToolConfigurationError(f"give at least one file: --{option} FILE")
            self.files[option] = [path for p in patterns for path in find_files(p)]
        self.paths = [path for paths in self.files.values() for path in paths]
        self.labels = [LABELS[o] for o, paths in self.files.items() for _ in paths]
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

    def _collect_telescopes(self):
        arrays = {}
        for path in self.paths:
            arrays[path] = check_file(path)
            Provenance().add_input_file(path, role="DL1 images for training")
        self.telescopes = common_telescopes(arrays, self.telescope_types)

    def _check_outputs(self):
        """Never lose a file that the user did not give up."""
        self.enter_context(self.outputs.claimed(self.paths, self.log))
        self.outputs.check_checkpoints()
        if not self.outputs.goes_on:
            self.check_output(self.output_path)
        if not self.overwrite:
            self.outputs.check_records()

    def start(self):
        """Find the images of all telescope types, then train all their members."""
        self.networks, self.histories = [], {}
        #: Number of the signal, or the error, that ended the training too early.
        self.interrupted = self.failure = None
        prepared = {name: self._prepare(name) for name in self.telescopes}
        cards = [data.card for data, _ in prepared.values()]
        if self.has_all:
            self.outputs.check_same_training(cards)
            self.log.info(
                "%s is complete, it has all these members: nothing is left to train",
                self.output_path,
            )
            return
        self._check_checkpoints(prepared)
        if self.is_first_process:
            self.outputs.try_to_write(self._card(cards))
        for name, (data, settings) in prepared.items():
            if self.interrupted is None and self.failure is None:
                self._train_telescope(name, data, settings)

    def _check_checkpoints(self, prepared):
        """Check all before the first one is gone on with."""
        from ..training.checkpoint import check_resumable

        for (name, _), paths in self.outputs.paths.items():
            if paths.checkpoint.exists():
                _, settings = prepared[name]
                check_resumable(paths.checkpoint, settings)

    def _prepare(self, name):
        """What the networks of a telescope type are trained on, and all settings."""
        from ..training.fit import TrainingSet

        query = TrainingQualityQuery(parent=self)
        training, validation = split_images(
            self.paths,
            self.labels,
            name,
            query,
            self.validation_fraction,
            self.tasks,
        )
        selection = query.to_table(functions=True)
        counts = "\n".join(selection.pformat(max_lines=-1, max_width=-1))
        self.log.info("Selection of images of %s:\n%s", name, counts)
        n_classes = len(set(self.labels))
        check_training(name, training, n_classes, counts)
        check_batch_size(name, training, self.recipe, self.log)
        if self.validation_fraction > 0:
            check_validation(
                name,
                validation,
                n_classes,
                self.hardware.n_processes,
                needed=self.recipe.patience is not None,
                log=self.log,
            )
        geometry = self.telescopes[name].camera.geometry
        augmentation = Augmentation(geometry=geometry, parent=self)
        settings = describe_settings(
            self.recipe,
            augmentation,
            self.precision,
            self.files,
            selection,
            self.validation_fraction,
        )
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
                    self.outputs.paths[name, seed],
                    settings,
                    self._report,
                    progress,
                )
            except ToolConfigurationError as error:
                # Not yet raised: members that were trained before are written.
                self.failure = error
                break
            self.histories[f"{name} seed {seed}"] = history
            results = describe_results(history, self.interrupted is None)
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
                self.output_path if writes else self.outputs.folder,
                "what was trained so far" if writes else "the checkpoints",
                "--resume --add-members" if self.add_members else "--resume",
            )
            # The exit status of a process that the signal ended.
            if self.interrupted == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + self.interrupted)

    def _write_results(self):
        cards, weights = zip(*self.networks, strict=True)
        self.outputs.write(Model(self._card(cards), weights))
        Provenance().add_output_file(
            self.output_path, role="γ-PhysNet model", add_meta=False
        )
        self.log.info("Wrote %s", self.output_path)
        if self.interrupted is None and self.failure is None:
            self.outputs.remove_checkpoints()
        try:
            plot_histories(self.histories, self.outputs.curves)
        except Exception as error:
            # The model and the figures (CSV) are there, whatever a drawing needs.
            self.log.warning("The curves could not be drawn: %s", error)
        summary = "\n".join(summarise(self.histories).pformat(max_width=-1))
        self.log.info("Validation after the last epoch:\n%s", summary)

    def _card(self, cards):
        """Model card of networks."""
        return ModelCard(
            note=self.note,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            software=describe_software(),
            networks=tuple(cards),
        )


def _describe(error):
    """Say what is wrong with the network asked for, as pydantic found it."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    value = f"{first['input']} {message.replace('Input should', 'should')}"
    return f"TrainGammaPhysNet.{first['loc'][0]}: {value}"


def main():
    """Run the tool."""
    TrainGammaPhysNet().run()


if __name__ == "__main__":
    main()
