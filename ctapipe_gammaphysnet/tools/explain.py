"""Show what γ-PhysNet looks at, and how steadily."""

from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version

import numpy as np
from astropy.table import Table, vstack
from ctapipe.core import Provenance, ToolConfigurationError, traits
from ctapipe.instrument import FocalLengthKind
from ctapipe.io import read_table

from ..dl1_file import DL1File
from ..drawing import check_drawing, collect_failures, write_figures
from ..input_file import sha256_of_file
from ..output import check_folder, whole_folder
from ..paths import FilePath, Names, find_files, named_models, refuse_same_files
from ..quality import TrainingQualityQuery
from .base import GammaPhysNetTool
from .extras import require_modules

__all__ = ["ExplainGammaPhysNet", "main"]

_KEYS = ("obs_id", "event_id", "tel_id")


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

    output_dir = FilePath(
        default_value=None,
        allow_none=True,
        file_ok=False,
        help="Folder to write, which appears when it is complete.",
    ).tag(config=True)

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
        ["separation", "energy", "impact", "class"],
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

    telescope_types = traits.List(
        traits.Unicode(),
        help="Telescope types to explain, e.g. LST_LST_LSTCam. Default: all.",
    ).tag(config=True)

    focal_length_choice = traits.UseEnum(
        FocalLengthKind,
        default_value=FocalLengthKind.EFFECTIVE,
        help=(
            "Which focal length the telescopes have: for old productions that know only"
            " the equivalent one, ``EQUIVALENT``."
        ),
    ).tag(config=True)

    device = traits.Unicode(
        "auto", help="Where to compute: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``."
    ).tag(config=True)

    batch_size = traits.Int(
        64, min=1, help="Images that are explained at once. More take more memory."
    ).tag(config=True)

    n_jobs = traits.Int(
        None,
        min=1,
        allow_none=True,
        help="Number of threads; default: one for each core.",
    ).tag(config=True)

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
        "statistics": (
            {"ExplainGammaPhysNet": {"statistics": True}},
            "Say over all selected images where the heatmaps lie",
        ),
        "robustness": (
            {"ExplainGammaPhysNet": {"robustness": True}},
            "Say how predictions and heatmaps of disturbed images move",
        ),
        "overwrite": (
            {"ExplainGammaPhysNet": {"overwrite": True}},
            "Replace what was written into the output folder before",
        ),
    }

    classes = [TrainingQualityQuery]

    def setup(self):
        """Check all that can be checked before anything is computed."""
        require_modules("captum", "matplotlib")
        check_drawing()
        if self.output_dir is None:
            raise ToolConfigurationError(
                "give the folder to write: --output-dir FOLDER"
            )
        self._name_models()
        self._find_files()
        self._check_output()
        self._load_models()

    def _check_output(self):
        from ..explanation.files import FILES, LISTING

        inputs = [*self.model_paths.values(), *self.paths]
        check_folder(self.output_dir, LISTING, FILES, inputs, self.overwrite)

    def _name_models(self):
        """Model files, by what they are called."""
        from ..explanation.files import check_group_name

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
        paths = [
            path for pattern in self.input_patterns for path in find_files(pattern)
        ]
        if not paths:
            raise ToolConfigurationError("give at least one file: --input FILE")
        refuse_same_files(paths)
        self.paths, self.subarray, self.arrays = paths, None, {}
        for path in paths:
            with DL1File(path, self.focal_length_choice) as dl1:
                self.arrays[path] = dl1.subarray
                if dl1.is_simulation:
                    dl1.check_truth()
                for tel_id in dl1.without_pointing(dl1.subarray.tel_ids):
                    self.log.warning(
                        "%s does not have the pointing of telescope %d: errors of its "
                        "directions and impact points are not known",
                        path,
                        tel_id,
                    )
                self.subarray = self.subarray or dl1.subarray
                if _types(dl1.subarray) != _types(self.subarray):
                    raise ToolConfigurationError(
                        f"{path} is of other telescopes than {paths[0]}: explain one "
                        "array at a time"
                    )
        names = list(dict.fromkeys(_types(self.subarray).values()))
        for name in set(self.telescope_types) - set(names):
            raise ToolConfigurationError(
                f"there are no telescopes of type {name}, only {', '.join(names)}"
            )
        self.types = [n for n in names if n in (self.telescope_types or names)]

    def _load_models(self):
        # Only now: it takes a while.
        from ..evaluation.networks import seeds_of
        from ..explanation.explainer import Explainer
        from ..instrument import check_telescopes
        from ..model_file import read_model, warn_incomplete
        from ..predictor import Predictor, select_device, set_threads

        #: For each model and telescope type what explains it.
        self.explainers = {}
        try:
            device = select_device(self.device)
            set_threads(self.n_jobs)
            for name, path in self.model_paths.items():
                model = read_model(path)
                warn_incomplete(path, model.card, self.log)
                pairs = {
                    card.telescope.type: (card, weights)
                    for card, weights in zip(
                        model.card.networks, model.weights, strict=True
                    )
                }
                missing = set(self.types) - set(pairs)
                if missing:
                    raise ToolConfigurationError(
                        f"{path} has no network for {', '.join(sorted(missing))}, only "
                        f"for {', '.join(pairs)}: choose with --telescope-types"
                    )
                seeds = seeds_of([pairs[t][0] for t in self.types])
                if not seeds:
                    self.log.info(
                        "%s has a single member: nothing is said of deviations", name
                    )
                self.explainers[name] = {}
                for telescope_type in self.types:
                    card, weights = pairs[telescope_type]
                    for source, subarray in self.arrays.items():
                        check_telescopes(subarray, card.telescope, source)
                    if not card.network.attention:
                        self.log.info("%s has no attention: no maps of it", name)
                    self.explainers[name][telescope_type] = Explainer(
                        card, Predictor(card, weights, device), self.upsampling
                    )
                Provenance().add_input_file(
                    path,
                    role="γ-PhysNet model",
                    reference_meta={"sha256": sha256_of_file(path)},
                )
        except ValueError as error:
            raise ToolConfigurationError(str(error)) from error

    def start(self):
        """Explain, and write all that is found."""
        from ..explanation.files import FILE_NAME, FILES, LISTING, open_file

        for path in self.paths:
            Provenance().add_input_file(path, role="DL1 images", add_meta=False)
        #: What could not be drawn, and why: it costs nothing of what was computed.
        self.failures = []
        with whole_folder(self.output_dir, LISTING, FILES) as folder:
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
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "software": {
                name: version(name)
                for name in ("ctapipe_gammaphysnet", "ctapipe", "torch", "captum")
            },
            "models": {
                name: {
                    "file": str(path),
                    "sha256": sha256_of_file(path),
                    "seeds": [
                        member.seed
                        for member in self._card(name, self.types[0]).members
                    ],
                }
                for name, path in self.model_paths.items()
            },
            "inputs": [str(path) for path in self.paths],
            "configuration": self.get_current_config(),
        }

    def _card(self, model, telescope_type):
        return self.explainers[model][telescope_type].card

    def _batches(self, size, wanted=None, query=None):
        """Images of all files, with the number of their file."""
        from ..explanation.images import read_batches

        query = query or TrainingQualityQuery(parent=self)
        for number, path in enumerate(self.paths):
            of_file = None if wanted is None else wanted(number)
            for batch in read_batches(
                path,
                self.types,
                query,
                size,
                of_file,
                self.focal_length_choice,
                number,
            ):
                yield number, batch

    def _maps(self, batch):
        """What each model makes of images."""
        return {name: self._explain(name, batch) for name in self.explainers}

    def _explain(self, name, batch):
        explainer = self.explainers[name][batch.type]
        return explainer(self._inputs(explainer.predictor, batch))

    def _inputs(self, predictor, batch):
        inputs, _ = predictor.prepare(batch.image, batch.peak_time, batch.image_mask)
        return inputs

    @cached_property
    def _selected(self):
        """All selected images: file, keys, shower, and error of the first model."""
        from ..explanation.statistics import errors_of

        name = next(iter(self.explainers))
        query = TrainingQualityQuery(parent=self)
        parts = []
        with self._bar("looking for events") as bar:
            for number, batch in self._batches(256, query=query):
                part = Table({k: np.asarray(batch.events[k]) for k in _KEYS})
                part["file"] = np.full(len(batch), number)
                part["shower"] = np.asarray(batch.events["shower"])
                part["type"] = np.full(len(batch), batch.type)
                part["error"] = np.full(len(batch), np.nan)
                if (batch.events["label"] >= 0).any():
                    predictor = self.explainers[name][batch.type].predictor
                    predictions = predictor(self._inputs(predictor, batch))
                    part["error"] = errors_of(batch, predictions)[self.rank_by][0]
                parts.append(part)
                bar.update(len(batch))
        self.log.info("Selection of images:\n%s", query.to_table(functions=True))
        if not parts:
            raise ToolConfigurationError(
                "no image is selected: see the numbers above, and "
                "TrainingQualityQuery.quality_criteria"
            )
        selected = vstack(parts)
        self._check_showers(selected)
        return selected

    def _check_showers(self, selected):
        """Say which showers a model was trained on: it knows them."""
        from ..evaluation.networks import check_showers

        for name in self.explainers:
            for telescope_type in self.types:
                shower = selected["shower"][selected["type"] == telescope_type]
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
        from ..explanation.files import append_rows, maps_table
        from ..explanation.statistics import describe_events

        found = self._asked_for() if self.event_ids else self._chosen()
        if not found:
            return
        names = self._figure_names(found)
        events = vstack([describe_events(batch) for _, batch in found])
        events.add_column([title for title, _ in found], name="chosen", index=0)
        append_rows(file, "/events", events)
        with self._bar("events", len(found)) as bar:
            for name, (_, batch) in zip(names, found, strict=True):
                maps = self._maps(batch)
                for model, its_maps in maps.items():
                    path = f"/maps/{model}/{batch.type}"
                    append_rows(file, path, maps_table(batch.events, its_maps))
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
        from ..explanation.heatmaps import OUTPUTS

        empty = [
            OUTPUTS[output].label
            for output, heatmaps in maps.heatmaps.items()
            if not heatmaps.any()
        ]
        if empty:
            self.log.info(
                "%s: no pixel raises %s, the heatmaps are empty", what, ", ".join(empty)
            )

    def _figure_names(self, found):
        """Name the figure of each image; no two have the same name."""
        names = {}
        for title, batch in found:
            (event,) = batch.events
            parts = [title, *(f"{k.removesuffix('_id')}{event[k]}" for k in _KEYS)]
            if len(self.paths) > 1:
                # Run and event numbers are unique within one file only.
                parts.insert(1, f"file{event['file']}")
            name = "_".join(parts)
            if name in names:
                raise ToolConfigurationError(
                    f"{self.paths[event['file']]} has event {event['event_id']} of "
                    f"observation {event['obs_id']} twice: explain the files it was "
                    "merged from"
                )
            names[name] = batch
        return list(names)

    def _asked_for(self):
        """Images of the events that were asked for."""
        in_files, found = set(), []

        def wanted(number):
            def is_wanted(events):
                chosen = np.isin(events["event_id"], self.event_ids)
                in_files.update(events["event_id"][chosen].tolist())
                return chosen

            return is_wanted

        query = TrainingQualityQuery(parent=self)
        for _, batch in self._batches(256, wanted, query):
            found += [("event", batch.select([row])) for row in range(len(batch))]
        selected = {int(batch.events["event_id"][0]) for _, batch in found}
        problems = [
            f"event {number} has no image that is selected"
            if number in in_files
            else f"event {number} is in none of the files"
            for number in self.event_ids
            if number not in selected
        ]
        if not found:
            raise ToolConfigurationError(
                f"{'; '.join(problems)}. Images are selected by "
                f"TrainingQualityQuery.quality_criteria:\n{query.to_table()}"
            )
        for problem in problems:
            self.log.warning("%s", problem)
        return found

    def _chosen(self):
        """Images of the best, the worst and other events."""
        selected = self._selected
        rows = {"best": [], "worst": [], "random": []}
        ranked = np.argsort(selected["error"], kind="stable")
        ranked = ranked[np.isfinite(selected["error"][ranked])]
        if len(ranked) == 0 and self.n_best + self.n_worst > 0:
            self.log.warning(
                "there are no gammas whose truth is known: events are drawn at random, "
                "none is the best or the worst"
            )
        rows["best"] = ranked[: self.n_best]
        ranked = ranked[self.n_best :][::-1]
        rows["worst"] = ranked[: self.n_worst]
        others = np.arange(len(selected))
        others = np.setdiff1d(others, np.concatenate([rows["best"], rows["worst"]]))
        rows["random"] = self._draw(others, self.n_random)
        return [
            (f"{kind}{number}", batch)
            for kind, chosen in rows.items()
            for number, batch in enumerate(self._read(chosen), 1)
        ]

    def _draw(self, rows, n):
        rng = np.random.default_rng(self.seed)
        return np.sort(rng.choice(rows, min(n, len(rows)), replace=False))

    def _read(self, rows):
        """Read selected images again, one by one, in this order."""
        keys = [tuple(self._selected[row]["file", *_KEYS]) for row in rows]
        batches = {}
        for number, batch in self._batches(256, self._wanted(rows)):
            for row, event in enumerate(batch.events):
                key = (number, *(event[k] for k in _KEYS))
                batches[key] = batch.select([row])
        return [batches[key] for key in keys]

    def _wanted(self, rows):
        """What tells `read_batches` which images these are."""
        chosen = self._selected[rows]

        def wanted(number):
            of_file = chosen[chosen["file"] == number]
            keys = set(zip(*(of_file[k].tolist() for k in _KEYS), strict=True))

            def is_wanted(events):
                of_events = zip(*(events[k].tolist() for k in _KEYS), strict=True)
                return np.array([key in keys for key in of_events], dtype=bool)

            return is_wanted

        return wanted

    def _write_statistics(self, folder, file):
        """Where the heatmaps lie, over all images."""
        from ..evaluation.report import write_ecsv
        from ..explanation.files import append_rows
        from ..explanation.statistics import describe_events, describe_maps, summarise
        from ..explanation.statistics_figures import draw_statistics

        total = len(self._selected) * len(self.explainers)
        with self._bar("statistics", total) as bar:
            for _, batch in self._batches(self.batch_size):
                append_rows(file, "/statistics/events", describe_events(batch))
                for name in self.explainers:
                    table = describe_maps(batch, self._explain(name, batch))
                    append_rows(file, f"/statistics/models/{name}", table)
                    bar.update(len(batch))
        summary = summarise(
            read_table(file, "/statistics/events"),
            {
                name: read_table(file, f"/statistics/models/{name}")
                for name in self.explainers
            },
        )
        for name, table in summary.items():
            append_rows(file, f"/statistics/summary/{name}", table)
            write_ecsv(table, folder / f"statistics_{name}.ecsv")
        self._write_figures("statistics", lambda: draw_statistics(summary), folder)
        self.log.info("Overall:\n%s", _text(summary["overall"]))

    def _write_robustness(self, folder, file):
        """How predictions and heatmaps of disturbed images move."""
        from ..evaluation.report import write_ecsv
        from ..explanation.files import append_rows
        from ..explanation.robustness import (
            DISTURBANCES,
            disturb,
            movements,
            summarise_movements,
        )
        from ..explanation.robustness_figures import draw_robustness

        rng = np.random.default_rng(self.seed)
        rows = self._draw(np.arange(len(self._selected)), self.n_disturbed)
        settings = [
            (disturbance, value)
            for disturbance, (_, values) in DISTURBANCES.items()
            for value in values
        ]
        found = {
            (name, *setting): [] for name in self.explainers for setting in settings
        }
        total = len(rows) * len(settings) * len(self.explainers)
        with self._bar("robustness", total) as bar:
            for _, batch in self._batches(self.batch_size, self._wanted(rows)):
                before = self._maps(batch)
                for setting in settings:
                    disturbed = disturb(batch, *setting, rng)
                    for name, maps in before.items():
                        after = self._explain(name, disturbed)
                        found[name, *setting].append(movements(maps, after))
                        bar.update(len(batch))
        joined = {
            key: {k: np.concatenate([p[k] for p in parts], axis=1) for k in parts[0]}
            for key, parts in found.items()
        }
        table = summarise_movements(joined)
        append_rows(file, "/robustness", table)
        write_ecsv(table, folder / "robustness.ecsv")
        self._write_figures("robustness", lambda: draw_robustness(table), folder)
        self.log.info("Disturbed %d images in %d ways", len(rows), len(settings))


def _types(subarray):
    """Telescope type of each telescope."""
    return {tel_id: str(telescope) for tel_id, telescope in subarray.tel.items()}


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
