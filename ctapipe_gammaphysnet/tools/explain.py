"""Show what γ-PhysNet looks at, and how steadily."""

from ctapipe.core import Provenance, ToolConfigurationError, traits
from ctapipe.utils import EventTypeFilter

from ..events.opening import read_atmosphere
from ..events.quality import TrainingQualityQuery
from ..files.inputs import find_inputs, refuse_same_names
from ..files.output import check_folder, whole_folder
from ..files.paths import Names, named_models, refuse_same_files
from ..tasks import TASKS
from . import options
from .base import GammaPhysNetTool
from .ending import end_without_figures
from .extras import require_modules

__all__ = ["ExplainGammaPhysNet", "main"]


class ExplainGammaPhysNet(GammaPhysNetTool):
    """Show what γ-PhysNet looks at in camera images.

    For some events: heatmaps (Grad-CAM) of each output, and maps of spatial attention.
    Over a whole sample: where the heatmaps lie, and how predictions and heatmaps move
    when images are noisier, broken, miscalibrated or shifted.
    """

    name = "ctapipe-explain-gammaphysnet"
    description = __doc__
    examples = """
    Explain two of the best, two of the worst and two other reconstructed events:

    > ctapipe-explain-gammaphysnet --model lst.safetensors --input gamma.dl1.h5 \\
        --output-dir explanation

    Explain two events:

    > ctapipe-explain-gammaphysnet --model lst.safetensors --input gamma.dl1.h5 \\
        --event-id 1200 1507 --output-dir explanation

    Compare two models on a whole sample, and on disturbed images:

    > ctapipe-explain-gammaphysnet --model vanilla=a.safetensors DA=b.safetensors \\
        --input 'test_gamma_*.dl1.h5' --statistics --robustness \\
        --output-dir explanation
    """

    models = Names(
        help=(
            "Model files: one or more; ``NAME=FILE`` to give one another name than its"
            " file."
        ),
    ).tag(config=True)

    input_patterns = Names(
        help=(
            "DL1 files with images and parameters: one or more, or patterns, all of one"
            " array of telescopes. Gammas or any other particles."
        ),
    ).tag(config=True)

    output_dir = options.output_dir().tag(config=True)

    event_ids = traits.List(
        traits.Int(),
        help="Events to explain, with all their telescopes, instead of chosen ones.",
    ).tag(config=True)

    n_best = traits.Int(
        2, min=0, help="Number of best reconstructed images of gammas to explain."
    ).tag(config=True)

    n_worst = traits.Int(
        2, min=0, help="Number of worst reconstructed images of gammas to explain."
    ).tag(config=True)

    n_random = traits.Int(
        2, min=0, help="Number of other images to explain, drawn at random."
    ).tag(config=True)

    rank_by = traits.CaselessStrEnum(
        [task.error for task in TASKS.values()],
        default_value="separation",
        help=(
            "Error that ranks the images: angle to the true direction, relative error"
            " of the energy, distance to the true impact point, distance of the"
            " gammaness from 1, error of the height of the maximum. It is that of the"
            " first model's mean prediction."
        ),
    ).tag(config=True)

    seed = traits.Int(0, min=0, help="Seed of the random numbers.").tag(config=True)

    statistics = traits.Bool(
        False, help="Measure where the heatmaps of all selected images lie."
    ).tag(config=True)

    robustness = traits.Bool(
        False, help="Measure how predictions and heatmaps of disturbed images move."
    ).tag(config=True)

    n_disturbed = traits.Int(
        200, min=1, help="Number of images that are disturbed, drawn at random."
    ).tag(config=True)

    upsampling = traits.CaselessStrEnum(
        ["cell", "linear"],
        default_value="cell",
        help=(
            "How coarse maps become maps of camera pixels: with the value of the cell"
            " that a pixel was pooled into, or interpolated on the lattice."
        ),
    ).tag(config=True)

    telescope_types = options.telescope_types("explain").tag(config=True)

    focal_length_choice = options.focal_length_choice().tag(config=True)

    atmosphere = options.atmosphere().tag(config=True)

    device = options.device().tag(config=True)

    batch_size = traits.Int(
        64, min=1, help="Number of images explained at once. More take more memory."
    ).tag(config=True)

    n_jobs = options.n_jobs().tag(config=True)

    aliases = {
        ("m", "model"): "ExplainGammaPhysNet.models",
        ("i", "input"): "ExplainGammaPhysNet.input_patterns",
        ("o", "output-dir"): "ExplainGammaPhysNet.output_dir",
        "event-id": "ExplainGammaPhysNet.event_ids",
        "best": "ExplainGammaPhysNet.n_best",
        "worst": "ExplainGammaPhysNet.n_worst",
        "random": "ExplainGammaPhysNet.n_random",
        **options.aliases(
            "ExplainGammaPhysNet",
            *(
                "rank-by",
                "seed",
                "upsampling",
                "telescope-types",
                "focal-length-choice",
            ),
            *("atmosphere", "device", "batch-size", "n-jobs"),
        ),
    }

    flags = options.switches(
        "ExplainGammaPhysNet",
        statistics="Measure where the heatmaps of all selected images lie",
        robustness="Measure how predictions and heatmaps of disturbed images move",
        overwrite="Replace earlier results in the output folder",
    )

    classes = [TrainingQualityQuery, EventTypeFilter]

    def setup(self):
        """Check all that can be checked before anything is computed."""
        require_modules("captum", "matplotlib")

        n_images = self.n_best + self.n_worst + self.n_random
        if not (self.event_ids or n_images or self.statistics or self.robustness):
            raise ToolConfigurationError(
                "there is no image to explain: give --best, --worst or --random a "
                "number, or --event-id, --statistics or --robustness"
            )
        self._name_models()
        self._find_files()
        self._check_output()
        self._load_models()

    def _name_models(self):
        """Model files, by name."""
        from ..explanation.names import check_group_name

        found = [pair for text in self.models for pair in named_models(text)]
        if not found:
            raise ToolConfigurationError("give at least one model: --model FILE")
        names = [name for name, _ in found]
        for name in names:
            check_group_name(name)
        refuse_same_names(names, "models", "rename one of them, NAME=FILE")
        self.model_paths = dict(found)

    def _find_files(self):
        """Input files, and the telescopes in them."""
        from ..explanation.arrays import choose_types, read_arrays

        self.paths = find_inputs("input", self.input_patterns)
        refuse_same_files(self.paths)
        self.arrays = read_arrays(self.paths, self.focal_length_choice, self.log)
        self.subarray = self.arrays[self.paths[0]]
        self.types = choose_types(self.subarray, self.telescope_types)

    def _check_output(self):
        from ..explanation.names import FILES, LISTING

        inputs = [*self.model_paths.values(), *self.paths]
        check_folder(self.output_dir, LISTING, FILES, inputs, self.overwrite)

    def _load_models(self):
        # Imported here: it takes a while.
        from ..evaluation.networks import read_models
        from ..explanation.run import make_explainers

        settings = {"device": self.device, "n_jobs": self.n_jobs}
        self.loaded = read_models(
            self.model_paths, self.types, self.arrays, self.log, **settings
        )
        self.explainers = {
            name: make_explainers(name, model, self.arrays, self.upsampling, self.log)
            for name, model in self.loaded.items()
        }

    def start(self):
        """Explain, and write all results."""
        from ..explanation.files import describe_explanation, open_file
        from ..explanation.names import FILE_NAME, FILES, LISTING
        from ..explanation.run import Explanation

        for path in self.paths:
            Provenance().add_input_file(path, role="DL1 images", add_meta=False)
        selection = self._select()
        provenance = describe_explanation(
            self.model_paths, self.loaded, self.paths, self.get_current_config()
        )
        with whole_folder(self.output_dir, LISTING, FILES, self.overwrite) as folder:
            with open_file(folder / FILE_NAME, provenance) as file:
                self.subarray.to_hdf(file)
                explanation = Explanation(
                    selection, folder, file, self.log, self._progress_of_images
                )
                explanation.explain_events()
                if self.statistics:
                    explanation.write_statistics(self.batch_size)
                if self.robustness:
                    explanation.write_robustness(
                        self.n_disturbed, self.batch_size, self.seed
                    )
            self.written = sorted({LISTING} | {path.name for path in folder.iterdir()})
        self.failures = explanation.failures

    def _select(self):
        """The selected images, and the choice of those to explain."""
        from ..explanation.selection import Choice, Selection

        choice = Choice(
            event_ids=self.event_ids,
            n_best=self.n_best,
            n_worst=self.n_worst,
            n_random=self.n_random,
            rank_by=self.rank_by,
            seed=self.seed,
            may_be_empty=self.statistics or self.robustness,
        )
        return Selection(
            self.paths,
            self.types,
            self.focal_length_choice,
            self.explainers,
            choice,
            self,
            self._progress_of_images,
            read_atmosphere(self.atmosphere),
        )

    def _progress_of_images(self, what, total):
        return self.progress(what, total, "im")

    def finish(self):
        """Report what was written, and what was not."""
        for name in self.written:
            Provenance().add_output_file(
                self.output_dir / name, role="explanation", add_meta=False
            )
        for failure in self.failures:
            self.log.error("Not drawn: %s", failure)
        tables = [name for name in self.written if name.endswith((".h5", ".ecsv"))]
        self.log.info(
            "Wrote %s: %s, and %d figures (PNG, PDF)",
            self.output_dir,
            ", ".join(tables),
            sum(name.endswith(".png") for name in self.written),
        )
        if self.failures:
            end_without_figures(self.log)


def main():
    """Run the tool."""
    ExplainGammaPhysNet().run()


if __name__ == "__main__":
    main()
