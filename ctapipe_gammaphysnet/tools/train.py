"""Train γ-PhysNet on simulated DL1 images."""

import os

# PyTorch's threads would wait in a loop, on the cores on which compiled code computes.
# Unless the user wants that, they sleep. PyTorch reads this when it is loaded, which
# ctapipe's imports do already.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from ctapipe.core import ToolConfigurationError, traits
from ctapipe.image import ImageCleaner, ImageExtractor
from ctapipe.utils import EventTypeFilter

from ..configuration.sections import merged_section
from ..configuration.traits import FiniteFloat, LimitedInt
from ..events.quality import TrainingQualityQuery
from ..files.inputs import find_inputs, with_labels
from ..files.output import check_file as check_output_file
from ..files.paths import FilePath, Names
from ..tasks import TASKS, default_tasks
from ..tasks.conditions import CONDITIONS
from ..training.architecture import choose_network
from ..training.augmentation import Augmentation
from ..training.outputs import Outputs
from ..training.recipe import InputTransformation, Recipe
from ..training.sample import common_field, read_telescopes
from . import options
from .base import GammaPhysNetTool
from .ending import end_by_signal
from .extras import require_modules

__all__ = ["TrainGammaPhysNet", "main"]


class TrainGammaPhysNet(GammaPhysNetTool):
    """Train γ-PhysNet on DL1 images of simulated showers.

    For each telescope type one network per seed is trained, to separate gammas from
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

    Continue after an interruption, with the same options:

    > ctapipe-train-gammaphysnet --resume --signal gamma.dl1.h5 \\
        --background proton.dl1.h5 --output model.safetensors

    Train on four GPUs, and add a member to a model:

    > ctapipe-train-gammaphysnet --device cuda --devices 4 --seeds 6 --add-members \\
        --signal 'gamma_*.dl1.h5' --background 'proton_*.dl1.h5' \\
        --output model.safetensors

    Go on from a model, with other images:

    > ctapipe-train-gammaphysnet --init-from model.safetensors \\
        --signal gamma.dl1.h5 --background proton.dl1.h5 --output new.safetensors \\
        --Recipe.learning_rate=1e-4 --epochs 5
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

    init_from = FilePath(
        default_value=None,
        allow_none=True,
        directory_ok=False,
        exists=True,
        help=(
            "Model file with whose weights the training begins: each member with those"
            " of the member of its seed, or of the only one. Architecture, tasks and"
            " input are those of the model unless given; backbone and input cannot be"
            " others. New heads begin with random weights, those of errors at the"
            " paper's loss, and new conditions without effect. The output"
            " must be another file, and ``--resume`` needs the model again."
        ),
    ).tag(config=True)

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

    errors = traits.Bool(
        False,
        help=(
            "Predict the error of each regression beside its value, learnt from the"
            " same images: the ``_uncert`` columns of DL2, by which telescopes are then"
            " combined. The paper's networks predict none."
        ),
    ).tag(config=True)

    conditions = traits.List(
        traits.CaselessStrEnum(CONDITIONS),
        help=(
            "What the network knows beside the image, for samples with a range of"
            " pointings or night skies: ``zenith``, the cosine of the pointing's zenith"
            " angle; ``geomagnetic_field``, the field's components across the pointing;"
            " and ``noise``, that of the image's pixels without signal. For the field"
            " all files must give the same simulated one. The model keeps it, and uses"
            " it for observations, which record none: apply the model at that site."
            " Without the pointing or the noise that it needs, such a network predicts"
            " nothing."
        ),
    ).tag(config=True)

    validation_fraction = FiniteFloat(
        0.1, min=0, max=0.9, help="Share of the simulated showers kept for validation."
    ).tag(config=True)

    image_extractors = traits.List(
        traits.ComponentName(ImageExtractor),
        help=(
            "Image extractors of ctapipe, such as LocalPeakWindowSum, that made the"
            " images of the files, which do not say it. The model keeps them, and"
            " ctapipe-process then warns of images by another one. Empty: not known."
        ),
    ).tag(config=True)

    image_cleaners = traits.List(
        traits.ComponentName(ImageCleaner),
        help="The same of image cleaners, such as TailcutsImageCleaner.",
    ).tag(config=True)

    note = traits.Unicode(
        "", help="Free text for the model card, such as what the model is for."
    ).tag(config=True)

    atmosphere = options.atmosphere().tag(config=True)

    device = options.device().tag(config=True)

    devices = traits.Int(
        1,
        min=1,
        help=(
            "Number of GPUs per node, or of processes on a CPU, that split each batch."
            " Under torchrun or Slurm it is the number of processes per node."
        ),
    ).tag(config=True)

    nodes = traits.Int(1, min=1, help="Number of nodes, under torchrun or Slurm.").tag(
        config=True
    )

    precision = options.precision(
        help=(
            "Precision of the convolutions; weights stay in float32. ``bfloat16`` is"
            " meant for GPUs: on a CPU it is slower."
        ),
    ).tag(config=True)

    n_jobs = options.n_jobs().tag(config=True)

    resume = traits.Bool(
        False,
        help=(
            "Continue interrupted trainings from their last checkpoints, in the folder"
            " next to the output that ends in ``.training``. The result is that of a"
            " training without interruption."
        ),
    ).tag(config=True)

    add_members = traits.Bool(
        False,
        help=(
            "Add the members to the output if it exists. Networks for other telescope"
            " types can have another recipe. Several trainings of different seeds or"
            " telescope types, on different GPUs, can add to one file at the same time."
        ),
    ).tag(config=True)

    tensorboard = traits.Bool(
        False, help="Also write a log for TensorBoard, next to the checkpoints."
    ).tag(config=True)

    aliases = {
        ("o", "output"): "TrainGammaPhysNet.output_path",
        **options.aliases(
            "TrainGammaPhysNet",
            *("signal", "background", "telescope-types", "seeds", "blocks", "channels"),
            *("hidden", "tasks", "conditions", "atmosphere", "device", "devices"),
            *("nodes", "precision", "n-jobs", "init-from"),
        ),
        **options.aliases("Recipe", "epochs", "batch-size"),
    }

    flags = {
        **traits.flag(
            "attention",
            "TrainGammaPhysNet.attention",
            "Train γ-PhysNet DA, with dual attention",
            "Train γ-PhysNet without attention",
        ),
        **options.switches(
            "TrainGammaPhysNet",
            errors="Predict the error of each regression",
            resume="Continue an interrupted training",
            add_members="Add the members to the output if it exists",
            tensorboard="Write a log for TensorBoard",
            overwrite="Replace the output file, and checkpoints, if they exist",
        ),
    }

    classes = [
        TrainingQualityQuery,
        EventTypeFilter,
        Recipe,
        InputTransformation,
        Augmentation,
    ]

    def setup(self):
        """Check all that can be checked before anything is trained."""
        require_modules("lightning", "matplotlib", *["tensorboard"] * self.tensorboard)
        self.parent_model = self._read_parent()
        self._find_files()
        self._check_options()
        self.recipe = Recipe(parent=self)
        n_processes = self.devices * self.nodes
        self.recipe.check(
            self.tasks,
            self.validation_fraction,
            n_processes,
            has_parent=self.parent_model is not None,
        )
        # Made for each telescope type, but only when all files have been read.
        InputTransformation(parent=self).card()
        if self.errors and not any(TASKS[task].n_scales for task in self.tasks):
            raise ToolConfigurationError(
                "TrainGammaPhysNet.errors needs a task with a value, such as energy, "
                f"but TrainGammaPhysNet.tasks are {', '.join(self.tasks)}"
            )
        self.network = choose_network(
            type(self).__name__,
            blocks=self.blocks,
            channels=tuple(self.channels),
            hidden=self.hidden,
            attention=self.attention,
            attention_ratio=self.attention_ratio,
            tasks=tuple(self.tasks),
            errors=self.errors,
            conditions=tuple(self.conditions),
        )
        # Imported here: help and errors must not wait for Lightning.
        from ..model.predictor import set_threads
        from ..training.hardware import check_environment, choose_hardware

        wanted = self.device, self.devices, self.nodes, self.precision
        self.hardware = choose_hardware(*wanted)
        self.is_first_process = check_environment(self.hardware) == 0
        set_threads(self.n_jobs)
        self.telescopes = read_telescopes(self.paths, self.telescope_types)
        needs_field = self.network.needs_field
        self.geomagnetic_field_ut = common_field(self.paths) if needs_field else None
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

    def _read_parent(self):
        """Read the model to begin with; what is not given is as there."""
        if self.init_from is None:
            return None
        # Imported here: help and errors must not wait for PyTorch.
        from ..training.parent import default_settings, read_parent

        parent = read_parent(self.init_from, self.log)
        given = merged_section(self.config, self.section_names())
        settings = default_settings(parent, self.trait_names(config=True), given)
        for name, value in settings.items():
            setattr(self, name, value)
        return parent

    def _find_files(self):
        """Find files of signal, and of background if the class is learnt."""
        # Without the class there is nothing to learn from background.
        names = ["signal", "background"] if "class" in self.tasks else ["signal"]
        self.files = {name: find_inputs(name, getattr(self, name)) for name in names}
        self.paths = [path for path, _ in with_labels(self.files)]

    def _check_options(self):
        if len(set(self.seeds)) < len(self.seeds):
            raise ToolConfigurationError(f"seeds must differ, got {self.seeds}")
        if self.output_path is None:
            raise ToolConfigurationError("give the model file to write: --output FILE")
        if self.resume and self.overwrite:
            raise ToolConfigurationError(
                "--resume continues a training, --overwrite restarts it: give one"
            )
        self.inputs = [*self.paths, *filter(None, [self.init_from])]
        check_output_file(self.output_path, self.inputs)

    def _check_outputs(self):
        """Check that no file is lost without the user's consent."""
        self.enter_context(self.outputs.claimed(self.inputs, self.log))
        self.outputs.check_checkpoints()
        if not self.outputs.continues:
            self.check_output(self.output_path)
        if not self.overwrite:
            self.outputs.check_records()

    def start(self):
        """Find the images of all telescope types, then train all their members."""
        from ..training.plan import Plan
        from ..training.run import TrainingRun

        plan = Plan(
            self.files,
            self.telescopes,
            self.seeds,
            self.network,
            self.recipe,
            self.validation_fraction,
            self.hardware,
            self.atmosphere,
            {
                "image_extractors": self.image_extractors,
                "image_cleaners": self.image_cleaners,
            },
            self.parent_model,
            self.geomagnetic_field_ut,
        )
        self.training = TrainingRun(plan, self.outputs, self.note, self)
        progress = self.log.info if self.shows_progress else None
        self.training.run(self.has_all, self.is_first_process, progress)

    def finish(self):
        """Write what was trained, and end as the training did."""
        self.training.finish(self.is_first_process)
        if self.training.interrupted is not None:
            end_by_signal(self.training.interrupted)


def main():
    """Run the tool."""
    TrainGammaPhysNet().run()


if __name__ == "__main__":
    main()
