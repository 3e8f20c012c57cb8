"""Evaluate γ-PhysNet, and compare it with other algorithms."""

from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from ctapipe.core import Provenance, ToolConfigurationError, traits

from ..dl1_array import read_subarray
from ..drawing import check_drawing, collect_failures, write_figures
from ..output import check_folder, whole_folder
from ..paths import (
    FilePath,
    Names,
    find_files,
    named_models,
    printable,
    refuse_same_files,
)
from ..quality import TrainingQualityQuery
from ..reconstructor import sha256_of_file
from ..training.index import check_file
from .base import GammaPhysNetTool
from .extras import require_modules

__all__ = ["EvaluateGammaPhysNet", "main"]

#: Spectra of pyirf that events can be weighted to. Not imported: pyirf may be missing.
_SPECTRA = (
    "CRAB_HEGRA",
    "CRAB_MAGIC_JHEAP2015",
    "PDG_ALL_PARTICLE",
    "IRFDOC_PROTON_SPECTRUM",
    "IRFDOC_ELECTRON_SPECTRUM",
    "DAMPE_P_He_SPECTRUM",
)
#: What is added to the name of a reference: groups like ours, one for each property.
_GROUPS = ("", "Energy", "Geometry", "Classifier")


class EvaluateGammaPhysNet(GammaPhysNetTool):
    """Evaluate γ-PhysNet and other algorithms on the same simulated events.

    Resolutions and bias in bins of true energy, separation of gammas and background,
    and the dispersion over the members of a model: as tables, figures and a report.
    """

    name = "ctapipe-evaluate-gammaphysnet"
    description = __doc__
    examples = """
    Evaluate a model on simulated showers that it has not seen:

    > ctapipe-evaluate-gammaphysnet --model lst.safetensors \\
        --signal 'test_gamma_*.dl1.h5' --background 'test_proton_*.dl1.h5' \\
        --output-dir evaluation

    Compare two models with random forests, which are in the files as DL2:

    > ctapipe-evaluate-gammaphysnet --model vanilla=a.safetensors DA=b.safetensors \\
        --reference forests=RandomForestRegressor,disp,RandomForestClassifier \\
        --signal gamma.dl2.h5 --background proton.dl2.h5 --output-dir evaluation

    Compare what is in DL2 files, of the array:

    > ctapipe-evaluate-gammaphysnet --reference GammaPhysNet HillasReconstructor \\
        --level array --signal gamma.dl2.h5 --background proton.dl2.h5 \\
        --output-dir evaluation
    """

    models = Names(
        help=(
            "Model files, which predict from the images of the files; ``NAME=FILE`` to"
            " call one something else than its file."
        ),
    ).tag(config=True)

    references = traits.List(
        traits.Unicode(),
        help=(
            "Algorithms whose DL2 is in the files, by their prefixes, for example"
            " ``HillasReconstructor`` or ``GammaPhysNet``;"
            " ``NAME=PREFIX,PREFIX`` where properties have different ones."
        ),
    ).tag(config=True)

    signal = Names(
        help=(
            "Files of simulated gammas: one or more, or patterns. DL1 with images and"
            " parameters for models, DL2 for references, or both in one."
        ),
    ).tag(config=True)

    background = Names(
        help=(
            "Files of simulated background, usually protons: like those of the signal."
            " Without any, nothing is said of the separation of gammas from it."
        ),
    ).tag(config=True)

    output_dir = FilePath(
        default_value=None,
        allow_none=True,
        file_ok=False,
        help="Folder to write, which appears when it is complete.",
    ).tag(config=True)

    level = traits.CaselessStrEnum(
        ["telescope", "array"],
        default_value="telescope",
        help=(
            "Whether to evaluate each telescope's predictions, or the array's. For the"
            " array models' are combined as GammaPhysNetReconstructor does by default."
        ),
    ).tag(config=True)

    telescope_types = traits.List(
        traits.Unicode(),
        help="Telescope types to evaluate, e.g. LST_LST_LSTCam. Default: all.",
    ).tag(config=True)

    # The bins of CTAO's performance figures: five in a decade, from 10^-1.9 TeV.
    energy_min = traits.Float(
        10**-1.9, min=0, help="Where the bins in true energy begin, in TeV."
    ).tag(config=True)

    energy_max = traits.Float(
        10**2.1, help="What the bins in true energy do not go beyond, in TeV."
    ).tag(config=True)

    energy_bins_per_decade = traits.Int(
        5, min=1, help="Bins in true energy in a factor of 10."
    ).tag(config=True)

    intensity_min = traits.Float(
        50, min=0, help="Where the bins in intensity begin, in p.e."
    ).tag(config=True)

    intensity_max = traits.Float(
        50_000, help="What the bins in intensity do not go beyond, in p.e."
    ).tag(config=True)

    intensity_bins_per_decade = traits.Int(
        3, min=1, help="Bins in intensity in a factor of 10."
    ).tag(config=True)

    min_events = traits.Int(
        20,
        min=1,
        help=(
            "Bins with fewer events stay empty: gammas, and background where it"
            " matters."
        ),
    ).tag(config=True)

    gammaness_cut = traits.Float(
        0.5,
        min=0,
        max=1,
        help="Smallest gammaness of what is taken for a gamma: precision and recall.",
    ).tag(config=True)

    n_bootstrap = traits.Int(
        100,
        min=0,
        help="Samples of showers by which statistical errors are estimated.",
    ).tag(config=True)

    signal_spectrum = traits.CaselessStrEnum(
        _SPECTRA,
        default_value=None,
        allow_none=True,
        help=(
            "Spectrum, of those in pyirf, to which gammas are weighted. Only its shape"
            " matters. Default: as simulated."
        ),
    ).tag(config=True)

    background_spectrum = traits.CaselessStrEnum(
        _SPECTRA,
        default_value=None,
        allow_none=True,
        help="The same for background.",
    ).tag(config=True)

    draw_members = traits.Bool(
        False, help="Draw the curve of each member, too. The tables always have them."
    ).tag(config=True)

    published = traits.Bool(
        False,
        help=(
            "Draw published resolutions of LST-1 (Abe et al. 2023), for orientation:"
            " other data, with other cuts."
        ),
    ).tag(config=True)

    allow_training_showers = traits.Bool(
        False,
        help="Evaluate models on showers that they were trained on.",
    ).tag(config=True)

    device = traits.Unicode(
        "auto", help="Where to compute: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``."
    ).tag(config=True)

    precision = traits.CaselessStrEnum(
        ["float32", "bfloat16"],
        default_value="float32",
        help="Precision of the convolutions.",
    ).tag(config=True)

    n_jobs = traits.Int(
        None,
        min=1,
        allow_none=True,
        help="Number of threads; default: one for each core.",
    ).tag(config=True)

    aliases = {
        ("m", "model"): "EvaluateGammaPhysNet.models",
        "reference": "EvaluateGammaPhysNet.references",
        "signal": "EvaluateGammaPhysNet.signal",
        "background": "EvaluateGammaPhysNet.background",
        ("o", "output-dir"): "EvaluateGammaPhysNet.output_dir",
        "level": "EvaluateGammaPhysNet.level",
        "telescope-types": "EvaluateGammaPhysNet.telescope_types",
        "gammaness-cut": "EvaluateGammaPhysNet.gammaness_cut",
        "min-events": "EvaluateGammaPhysNet.min_events",
        "device": "EvaluateGammaPhysNet.device",
        "precision": "EvaluateGammaPhysNet.precision",
        "n-jobs": "EvaluateGammaPhysNet.n_jobs",
    }

    flags = {
        "draw-members": (
            {"EvaluateGammaPhysNet": {"draw_members": True}},
            "Draw the curve of each member, too",
        ),
        "published": (
            {"EvaluateGammaPhysNet": {"published": True}},
            "Draw published resolutions of LST-1, for orientation",
        ),
        "allow-training-showers": (
            {"EvaluateGammaPhysNet": {"allow_training_showers": True}},
            "Evaluate models on showers that they were trained on",
        ),
        "overwrite": (
            {"EvaluateGammaPhysNet": {"overwrite": True}},
            "Replace what was written into the output folder before",
        ),
    }

    classes = [TrainingQualityQuery]

    def setup(self):
        """Check all that can be checked before anything is computed."""
        require_modules("pyirf", "matplotlib")
        check_drawing()
        if self.output_dir is None:
            raise ToolConfigurationError(
                "give the folder to write: --output-dir FOLDER"
            )
        self._name_algorithms()
        self._find_files()
        self._check_output()
        self._choose_bins()
        self._find_telescopes()
        self._find_groups()
        self._load_models()

    def _check_output(self):
        from ..evaluation.report import FILES, LISTING

        inputs = [*self.model_paths.values(), *(path for path, _ in self.files)]
        check_folder(self.output_dir, LISTING, FILES, inputs, self.overwrite)

    def _name_algorithms(self):
        """Model files and groups of DL2, by what they are called."""
        self.model_paths, self.groups = {}, {}
        for text in self.models:
            for name, path in named_models(text):
                self._add(self.model_paths, name, path)
        for text in self.references:
            name, _, prefixes = text.partition("=")
            groups = prefixes.split(",") if prefixes else [name + g for g in _GROUPS]
            self._add(self.groups, printable(name), groups)
        if not (self.model_paths or self.groups):
            raise ToolConfigurationError(
                "give what to evaluate: --model FILE, --reference PREFIX, or both"
            )

    def _add(self, algorithms, name, value):
        if name in self.model_paths or name in self.groups:
            raise ToolConfigurationError(
                f"two algorithms are called {name}: name one of them, NAME=..."
            )
        algorithms[name] = value

    def _find_files(self):
        if not self.signal:
            raise ToolConfigurationError("give at least one file: --signal FILE")
        #: Files, and their labels.
        self.files = [
            (path, label)
            for label, patterns in enumerate((self.signal, self.background))
            for pattern in patterns
            for path in find_files(pattern)
        ]
        refuse_same_files([path for path, _ in self.files])

    def _choose_bins(self):
        from ..evaluation.metrics import log_edges
        from ..evaluation.results import Settings

        edges = []
        for name in ("energy", "intensity"):
            low, high = (getattr(self, f"{name}_{end}") for end in ("min", "max"))
            if not 0 < low < high < np.inf:
                raise ToolConfigurationError(
                    f"the bins in {name} go from {low} to {high}: they must begin "
                    "above 0, and end higher"
                )
            per_decade = getattr(self, f"{name}_bins_per_decade")
            edges.append(log_edges(low, high, per_decade))
            if len(edges[-1]) < 2:
                raise ToolConfigurationError(
                    f"there is no bin in {name} between {low} and {high}, with "
                    f"{per_decade} in a factor of 10: raise {name}_max or "
                    f"{name}_bins_per_decade"
                )
        self.settings = Settings(
            *edges, self.gammaness_cut, self.min_events, self.n_bootstrap
        )

    def _find_telescopes(self):
        """Telescopes of interest in each file, and their types."""
        self.tel_ids, self.arrays, types = {}, {}, {}
        for path, _ in self.files:
            # Networks need the images, other algorithms only their DL2.
            read = check_file if self.model_paths else read_subarray
            subarray = read(path)
            self.arrays[path] = subarray
            names = {tel_id: str(t) for tel_id, t in subarray.tel.items()}
            wanted = self.telescope_types or names.values()
            for name in set(wanted) - set(names.values()):
                raise ToolConfigurationError(
                    f"{path} has no telescopes of type {name}, only "
                    f"{', '.join(sorted(set(names.values())))}"
                )
            self.tel_ids[path] = [t for t, name in names.items() if name in wanted]
            types |= dict.fromkeys(names[t] for t in self.tel_ids[path])
        self.types = list(types)

    def _find_groups(self):
        """Groups of DL2 that are in the files, of those that there may be."""
        from ..evaluation.events import find_groups

        for name, groups in self.groups.items():
            # Groups that are named must all be there, of those that follow from the
            # algorithm's name one.
            is_named = groups != [name + suffix for suffix in _GROUPS]
            found = {
                group
                for path, _ in self.files
                for wanted in ([[g] for g in groups] if is_named else [groups])
                for group in find_groups(path, self.level, wanted)
            }
            self.groups[name] = sorted(found)

    def _load_models(self):
        #: Networks of each model, of the telescope types of interest.
        self.networks = {}
        if not self.model_paths:
            return
        # Only now: it takes a while.
        from ..evaluation.networks import Network, seeds_of
        from ..instrument import check_telescopes
        from ..model_file import read_model, warn_incomplete
        from ..predictor import Predictor, select_device, set_threads

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
                for telescope_type in self.types:
                    card, _ = pairs[telescope_type]
                    for source, subarray in self.arrays.items():
                        check_telescopes(subarray, card.telescope, source)
                seeds_of([pairs[t][0] for t in self.types])
                self.networks[name] = [
                    Network(card, Predictor(card, weights, device, self.precision))
                    for card, weights in (pairs[t] for t in self.types)
                ]
                Provenance().add_input_file(
                    path,
                    role="γ-PhysNet model",
                    reference_meta={"sha256": sha256_of_file(path)},
                )
        except ValueError as error:
            raise ToolConfigurationError(str(error)) from error

    def start(self):
        """Read the events, predict, and compute all figures."""
        from ..evaluation.events import read_events
        from ..evaluation.results import evaluate
        from ..evaluation.sample import common_sample, read_sample

        self.query = TrainingQualityQuery(parent=self)
        events = []
        for path, label in self.files:
            Provenance().add_input_file(path, role="simulated events", add_meta=False)
            events.append(read_events(path, label, self.query, self.tel_ids[path]))
            if np.isnan(events[-1]["intensity"]).all():
                self.log.warning(
                    "%s has no DL1 parameters: all of its telescope events are taken",
                    path,
                )
        self.log.info("Selection of images:\n%s", self.query.to_table(functions=True))
        self._check_showers(events)
        n_images = sum(map(len, events)) * len(self.networks)
        with self.progress("images", n_images, "im") as bar:
            samples = [
                read_sample(
                    path,
                    label,
                    self.level,
                    of_file,
                    self.networks,
                    self.groups,
                    bar.update,
                )
                for (path, label), of_file in zip(self.files, events, strict=True)
            ]
        sample, self.counts = common_sample(samples)
        self.results = evaluate(self._weighted(sample), self.settings)

    def _check_showers(self, events):
        """Refuse events that a model was trained on."""
        from ..evaluation.events import EvaluationError
        from ..evaluation.networks import check_showers

        for name, networks in self.networks.items():
            for network in networks:
                for (path, _), of_file in zip(self.files, events, strict=True):
                    n_seen = check_showers(network.card, of_file["shower"])
                    if n_seen is None:
                        self.log.warning(
                            "%s does not say on which showers it was trained: whether "
                            "it has seen those of %s is not known",
                            name,
                            path,
                        )
                    elif n_seen > 0 and not self.allow_training_showers:
                        raise EvaluationError(
                            f"{name} was trained on at least {n_seen} of the showers "
                            f"in {path}: what it says of them tells nothing. Give "
                            "files of other showers, or insist with "
                            "--allow-training-showers"
                        )
                    elif n_seen > 0:
                        self.log.warning(
                            "%s was trained on at least %d of the showers in %s",
                            name,
                            n_seen,
                            path,
                        )

    def _weighted(self, sample):
        """Weight the events to spectra, if that is wanted."""
        from ..evaluation.spectra import read_simulations, spectral_weights

        weights = sample.weights.copy()
        for label, spectrum in enumerate(
            (self.signal_spectrum, self.background_spectrum)
        ):
            if spectrum is None:
                continue
            of_class = np.asarray(sample.events["label"]) == label
            simulations = [
                run
                for path, its_label in self.files
                if its_label == label
                for run in read_simulations(path)
            ]
            weights[of_class] = spectral_weights(
                np.asarray(sample.events["true_energy"])[of_class],
                simulations,
                spectrum,
            )
        return replace(sample, weights=weights)

    def finish(self):
        """Write tables, figures and the report.

        Tables are written first: they are complete even if something cannot be drawn.
        """
        from ..evaluation.gaps import describe_gaps, find_gaps
        from ..evaluation.report import (
            FILES,
            LISTING,
            summarise,
            write_report,
            write_tables,
        )

        gaps, failures = find_gaps(self.results, self.settings), []
        with whole_folder(self.output_dir, LISTING, FILES) as folder:
            written = write_tables(self.results | {"events": self.counts}, folder)
            written += self._draw(folder, gaps, failures)
            written.append(folder / "report.html")
            write_report(
                written[-1],
                self._facts(),
                self.results,
                self.counts,
                [path for path in written if path.suffix == ".png"],
                self.published,
                gaps,
                failures,
            )
        for path in [*written, folder / LISTING]:
            Provenance().add_output_file(
                self.output_dir / path.name, role="evaluation", add_meta=False
            )
        self.log.info("Valid predictions:\n%s", _text(self.counts))
        self.log.info("Overall:\n%s", _text(summarise(self.results["overall"])))
        for gap in describe_gaps(gaps):
            self.log.warning("Not shown: %s", gap)
        for failure in failures:
            self.log.error("Not drawn: %s", failure)
        self.log.info("Wrote %s", self.output_dir / "report.html")
        if failures:
            self.log.error(
                "The tables are complete, but not all figures could be drawn"
            )
            raise SystemExit(1)

    def _draw(self, folder, gaps, failures):
        """Write all figures that can be drawn."""
        from ..evaluation.plots import draw_all

        plots = {}
        with collect_failures(failures, "figures"):
            plots = draw_all(
                self.results,
                self.gammaness_cut,
                self.draw_members,
                self.published,
                bool(self.signal_spectrum or self.background_spectrum),
                gaps,
            )
        return write_figures(plots, folder, failures)

    def _facts(self):
        """What the report says of itself."""
        names = {0: "Gammas", 1: "Background"}
        facts = {
            f"Model {name}": f"{path.name}, SHA-256 {sha256_of_file(path)[:16]}…, "
            f"{len(self.networks[name][0].card.members)} members"
            for name, path in self.model_paths.items()
        }
        facts |= {
            f"DL2 of {name}": ", ".join(groups) for name, groups in self.groups.items()
        }
        for label, name in names.items():
            paths = [path.name for path, its_label in self.files if its_label == label]
            facts[name] = ", ".join(paths) or "none"
        selection = "; ".join(f"{c}" for _, c in self.query.quality_criteria)
        spectra = [
            spectrum or "as simulated"
            for spectrum in (self.signal_spectrum, self.background_spectrum)
        ]
        return facts | {
            "Telescopes": ", ".join(self.types),
            "Events": f"of each {self.level}; images with {selection or 'anything'}",
            "Bins": f"empty with fewer than {self.min_events} events; statistical "
            f"errors from {self.n_bootstrap} samples of the showers",
            "Gammaness": f"at least {self.gammaness_cut:g} for precision and recall",
            "Spectra": " and ".join(dict.fromkeys(spectra)),
            "Made": f"{datetime.now(UTC).isoformat(timespec='seconds')} with "
            f"ctapipe_gammaphysnet {version('ctapipe_gammaphysnet')}, ctapipe "
            f"{version('ctapipe')}",
        }


def _text(table):
    return "\n".join(table.pformat(max_width=-1, max_lines=-1))


def main():
    """Run the tool."""
    EvaluateGammaPhysNet().run()


if __name__ == "__main__":
    main()
