"""Show what γ-PhysNet looks at, and how steadily."""

from functools import cached_property

import numpy as np
from ctapipe.core import Provenance, ToolConfigurationError, traits

from ..events.quality import TrainingQualityQuery
from ..figures.drawing import collect_failures, write_figures
from ..files.output import check_folder, whole_folder
from ..files.paths import Names, find_files, named_models, refuse_same_files
from ..tasks import TASKS
from . import options
from .base import GammaPhysNetTool
from .extras import require_modules

__all__ = ["ExplainGammaPhysNet", "main"]

#: Images that are read at once where they are not explained.
_BLOCK = 256


class ExplainGammaPhysNet(GammaPhysNetTool):
    """Show what γ-PhysNet looks at in camera images.

    For some events heatmaps (Grad-CAM) of each output, and the maps of spatial
    attention; over a whole sample where the heatmaps lie; and how predictions and
    heatmaps move when images are noisier, broken, miscalibrated or shifted.
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
            "Model files: one or more; ``NAME=FILE`` to call one something else than"
            " its file."
        ),
    ).tag(config=True)

    input_patterns = Names(
        help=(
            "DL1 files with images and parameters: one or more, or patterns. Of one"
            " array of telescopes; of gammas, or of another particle."
        ),
    ).tag(config=True)

    output_dir = options.output_dir().tag(config=True)

    event_ids = traits.List(
        traits.Int(),
        help="Events to explain, all of their telescopes, in place of chosen ones.",
    ).tag(config=True)

    n_best = traits.Int(
        2, min=0, help="Best reconstructed images to explain, of gammas with truth."
    ).tag(config=True)

    n_worst = traits.Int(
        2, min=0, help="Worst reconstructed images to explain, of gammas with truth."
    ).tag(config=True)

    n_random = traits.Int(2, min=0, help="Other images to explain, drawn at random.")
    n_random.tag(config=True)

    rank_by = traits.CaselessStrEnum(
        [task.error for task in TASKS.values()],
        default_value="separation",
        help=(
            "Error by which images are the best or worst: angle to the true direction,"
            " relative error of the energy, distance to the true impact point, distance"
            " of the gammaness from 1. It is that of the first model's mean prediction."
        ),
    ).tag(config=True)

    seed = traits.Int(0, min=0, help="Seed of all that is drawn.").tag(config=True)

    statistics = traits.Bool(
        False, help="Say over all selected images where the heatmaps lie."
    ).tag(config=True)

    robustness = traits.Bool(
        False, help="Say how predictions and heatmaps of disturbed images move."
    ).tag(config=True)

    n_disturbed = traits.Int(
        200, min=1, help="Images that are disturbed, drawn at random."
    ).tag(config=True)

    upsampling = traits.CaselessStrEnum(
        ["cell", "linear"],
        default_value="cell",
        help=(
            "How coarse maps come back to camera pixels: with the value of the cell"
            " that a pixel was pooled into, or interpolated on the lattice."
        ),
    ).tag(config=True)

    telescope_types = options.telescope_types("explain").tag(config=True)

    focal_length_choice = options.focal_length_choice().tag(config=True)

    device = options.device().tag(config=True)

    batch_size = traits.Int(
        64, min=1, help="Images that are explained at once. More take more memory."
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
        "rank-by": "ExplainGammaPhysNet.rank_by",
        "seed": "ExplainGammaPhysNet.seed",
        "upsampling": "ExplainGammaPhysNet.upsampling",
        "telescope-types": "ExplainGammaPhysNet.telescope_types",
        "focal-length-choice": "ExplainGammaPhysNet.focal_length_choice",
        "device": "ExplainGammaPhysNet.device",
        "batch-size": "ExplainGammaPhysNet.batch_size",
        "n-jobs": "ExplainGammaPhysNet.n_jobs",
    }

    flags = {
        **options.switch(
            "statistics",
            "ExplainGammaPhysNet.statistics",
            "Say over all selected images where the heatmaps lie",
        ),
        **options.switch(
            "robustness",
            "ExplainGammaPhysNet.robustness",
            "Say how predictions and heatmaps of disturbed images move",
        ),
        **options.switch(
            "overwrite",
            "ExplainGammaPhysNet.overwrite",
            "Replace what was written into the output folder before",
        ),
    }

    classes = [TrainingQualityQuery]

    def setup(self):
        """Check all that can be checked before anything is computed."""
        require_modules("captum", "matplotlib")
        if self.output_dir is None:
            raise ToolConfigurationError(
                "give the folder to write: --output-dir FOLDER"
            )
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

    def _check_output(self):
        from ..explanation.names import FILES, LISTING

        inputs = [*self.model_paths.values(), *self.paths]
        check_folder(self.output_dir, LISTING, FILES, inputs, self.overwrite)

    def _name_models(self):
        """Model files, by what they are called."""
        from ..explanation.names import check_group_name

        self.model_paths = {}
        for text in self.models:
            for name, path in named_models(text):
                check_group_name(name)
                if name in self.model_paths:
                    raise ToolConfigurationError(
                        f"two models are called {name}: name one of them otherwise, "
                        "NAME=FILE"
                    )
                self.model_paths[name] = path
        if not self.model_paths:
            raise ToolConfigurationError("give at least one model: --model FILE")

    def _find_files(self):
        """Input files, and the telescopes in them."""
        from ..explanation.arrays import choose_types, read_arrays

        self.paths = [
            path for pattern in self.input_patterns for path in find_files(pattern)
        ]
        if not self.paths:
            raise ToolConfigurationError("give at least one file: --input FILE")
        refuse_same_files(self.paths)
        self.arrays = read_arrays(self.paths, self.focal_length_choice, self.log)
        self.subarray = self.arrays[self.paths[0]]
        self.types = choose_types(self.subarray, self.telescope_types)

    def _load_models(self):
        # Only now: it takes a while.
        from ..evaluation.networks import read_networks
        from ..explanation.explainer import Explainer

        #: For each model what explains it, by telescope type, and hash of its file.
        self.explainers, self.sha256 = {}, {}
        for name, path in self.model_paths.items():
            model = read_networks(
                path,
                self.types,
                self.arrays,
                self.log,
                device=self.device,
                n_jobs=self.n_jobs,
            )
            self.sha256[name] = model.sha256
            self.explainers[name] = {
                telescope_type: Explainer(
                    network.card, network.predictor, self.upsampling
                )
                for telescope_type, network in model.networks.items()
            }
            self._say_what_it_lacks(name, model.networks.values())

    def _say_what_it_lacks(self, name, networks):
        """Say which parts of an explanation a model cannot have."""
        if any(len(network.card.members) == 1 for network in networks):
            self.log.info("%s has a single member: nothing is said of deviations", name)
        for network in networks:
            if not network.card.network.attention:
                self.log.info("%s has no attention: no maps of it", name)

    def start(self):
        """Explain, and write all that is found."""
        from ..explanation.files import open_file
        from ..explanation.names import FILE_NAME, FILES, LISTING

        for path in self.paths:
            Provenance().add_input_file(path, role="DL1 images", add_meta=False)
        #: What could not be drawn, and why: it costs nothing of what was computed.
        self.failures = []
        with whole_folder(self.output_dir, LISTING, FILES, self.overwrite) as folder:
            with open_file(folder / FILE_NAME, self._provenance()) as file:
                self.subarray.to_hdf(file)
                self._explain_events(folder, file)
                if self.statistics:
                    self._write_statistics(folder, file)
                if self.robustness:
                    self._write_robustness(folder, file)
            names = sorted({LISTING} | {path.name for path in folder.iterdir()})
        for name in names:
            Provenance().add_output_file(
                self.output_dir / name, role="explanation", add_meta=False
            )
        self._say_what_is_there(names)
        if self.failures:
            self.log.error(
                "The tables are complete, but not all figures could be drawn"
            )
            raise SystemExit(1)

    def _say_what_is_there(self, names):
        """Log what was written, and what was not."""
        for failure in self.failures:
            self.log.error("Not drawn: %s", failure)
        n_figures = sum(name.endswith(".png") for name in names)
        tables = [name for name in names if name.endswith((".h5", ".ecsv"))]
        self.log.info(
            "Wrote %s: %s, and %d figures (PNG, PDF)",
            self.output_dir,
            ", ".join(tables),
            n_figures,
        )

    def _write_figures(self, what, draw, folder):
        """Draw figures, if that is possible: the tables are there already."""
        plots = {}
        with collect_failures(self.failures, what):
            plots = draw()
        write_figures(plots, folder, self.failures)

    def _provenance(self):
        from ..explanation.files import describe_explanation

        models = {
            name: (path, self.sha256[name], self._card(name, self.types[0]))
            for name, path in self.model_paths.items()
        }
        return describe_explanation(models, self.paths, self.get_current_config())

    def _card(self, model, telescope_type):
        return self.explainers[model][telescope_type].card

    def _read(self, size, wanted=None, query=None):
        """Selected images of all files, in batches of this size."""
        from ..explanation.images import read_files

        query = query or TrainingQualityQuery(parent=self)
        return read_files(
            self.paths, self.types, query, size, wanted, self.focal_length_choice
        )

    @cached_property
    def _images(self):
        """All selected images, with the error of the first model."""
        from ..explanation.choice import list_images

        first = next(iter(self.explainers.values()))
        query = TrainingQualityQuery(parent=self)
        with self._bar("looking for events") as bar:
            batches = self._read(_BLOCK, query=query)
            images = list_images(batches, first, self.rank_by, bar.update)
        self.log.info("Selection of images:\n%s", query.to_table(functions=True))
        if len(images) == 0:
            raise ToolConfigurationError(
                "no image is selected: see the numbers above, and "
                "TrainingQualityQuery.quality_criteria"
            )
        self._check_showers(images)
        return images

    def _check_showers(self, images):
        """Say which showers a model was trained on: it knows them."""
        from ..evaluation.networks import check_showers

        for name in self.explainers:
            for telescope_type in self.types:
                shower = images["shower"][images["type"] == telescope_type]
                n_seen = check_showers(self._card(name, telescope_type), shower)
                if n_seen:
                    self.log.warning(
                        "%s was trained on at least %d of the showers", name, n_seen
                    )

    def _bar(self, what, total=None):
        return self.progress(what, total, "im")

    def _explain_events(self, folder, file):
        """Maps of single events."""
        from ..explanation.event_figure import draw_event
        from ..explanation.files import write_events, write_maps
        from ..explanation.names import figure_names

        found = self._asked_for() if self.event_ids else self._chosen()
        if not found:
            return
        titles, batches = zip(*found, strict=True)
        events = [batch.events[0] for batch in batches]
        names = figure_names(titles, events, self.paths)
        write_events(file, titles, batches)
        with self._bar("events", len(found)) as bar:
            for name, batch in zip(names, batches, strict=True):
                maps = {
                    model: explainers[batch.type].explain(batch)
                    for model, explainers in self.explainers.items()
                }
                for model, its_maps in maps.items():
                    write_maps(file, model, batch, its_maps)
                    self._say_what_is_empty(f"{name}, {model}", its_maps)
                self._write_figures(
                    name,
                    lambda name=name, batch=batch, maps=maps: {
                        name: draw_event(batch, maps)
                    },
                    folder,
                )
                bar.update()
        self.log.info(
            "Explained %d images with %d models", len(found), len(self.explainers)
        )

    def _say_what_is_empty(self, what, maps):
        """Say which heatmaps of an image are 0 everywhere, of all members."""
        from ..explanation.heatmaps import all_outputs

        if maps.empty:
            self.log.info(
                "%s: no pixel raises %s, the heatmaps are empty",
                what,
                ", ".join(all_outputs()[output].label for output in maps.empty),
            )

    def _asked_for(self):
        """Images of the events that were asked for."""
        from ..explanation.choice import find_events

        query = TrainingQualityQuery(parent=self)
        found, problems = find_events(
            self.event_ids, lambda wanted: self._read(_BLOCK, wanted, query)
        )
        if not found:
            raise ToolConfigurationError(
                f"{'; '.join(problems)}. Images are selected by "
                f"TrainingQualityQuery.quality_criteria:\n{query.to_table()}"
            )
        for problem in problems:
            self.log.warning("%s", problem)
        return [("event", batch) for batch in found]

    def _chosen(self):
        """Images of the best, the worst and other events."""
        from ..explanation.choice import choose, read_one_by_one, which_are

        is_ranked = np.isfinite(self._images["error"]).any()
        if not is_ranked and self.n_best + self.n_worst > 0:
            self._say_unranked()
        chosen = choose(
            self._images, self.n_best, self.n_worst, self.n_random, self.seed
        )
        images = self._images[np.concatenate(list(chosen.values()))]
        titles = [
            f"{kind}{number}"
            for kind, rows in chosen.items()
            for number in range(1, len(rows) + 1)
        ]
        batches = read_one_by_one(images, self._read(_BLOCK, which_are(images)))
        return list(zip(titles, batches, strict=True))

    def _say_unranked(self):
        """Say why there is no best or worst image; an error if there is no other."""
        from ..explanation.choice import why_unranked

        first = next(iter(self.explainers.values()))
        reason = why_unranked(self._images, first, self.rank_by)
        if not (self.n_random or self.statistics or self.robustness):
            raise ToolConfigurationError(
                f"there is no best or worst image to explain: {reason} (or draw images "
                "at random: --random NUMBER)"
            )
        self.log.warning("none is the best or the worst: %s", reason)

    def _write_statistics(self, folder, file):
        """Where the heatmaps lie, over all images."""
        from ..explanation.files import write_statistics, write_summary
        from ..explanation.statistics_figures import draw_statistics

        total = len(self._images) * len(self.explainers)
        with self._bar("statistics", total) as bar:
            batches = self._read(self.batch_size)
            summary = write_statistics(file, batches, self.explainers, bar.update)
        for name, table in summary.items():
            path = f"/statistics/summary/{name}"
            write_summary(file, path, folder, f"statistics_{name}", table)
        self._write_figures("statistics", lambda: draw_statistics(summary), folder)
        self.log.info("Overall:\n%s", _text(summary["overall"]))

    def _write_robustness(self, folder, file):
        """How predictions and heatmaps of disturbed images move."""
        from ..explanation.choice import draw, which_are
        from ..explanation.files import write_summary
        from ..explanation.robustness import (
            list_settings,
            measure_movements,
            summarise_movements,
        )
        from ..explanation.robustness_figures import draw_robustness

        rows = draw(np.arange(len(self._images)), self.n_disturbed, self.seed)
        n_settings = len(list_settings())
        total = len(rows) * n_settings * len(self.explainers)
        with self._bar("robustness", total) as bar:
            moved = measure_movements(
                self._read(self.batch_size, which_are(self._images[rows])),
                self.explainers,
                np.random.default_rng(self.seed),
                bar.update,
            )
        table = summarise_movements(moved)
        write_summary(file, "/robustness", folder, "robustness", table)
        self._write_figures("robustness", lambda: draw_robustness(table), folder)
        self.log.info("Disturbed %d images in %d ways", len(rows), n_settings)


def _text(table):
    table = table.copy()
    for column in table.itercols():
        if column.dtype.kind == "f":
            column.info.format = ".3g"
    return "\n".join(table.pformat(max_width=-1, max_lines=-1))


def main():
    """Run the tool."""
    ExplainGammaPhysNet().run()


if __name__ == "__main__":
    main()
