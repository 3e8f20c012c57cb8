"""Evaluate γ-PhysNet, and compare it with other algorithms."""

import numpy as np
from ctapipe.core import Provenance, ToolConfigurationError, traits

from ..configuration.traits import FiniteFloat
from ..events.opening import read_subarray
from ..events.quality import TrainingQualityQuery
from ..files.output import check_folder, whole_folder
from ..files.paths import (
    Names,
    find_files,
    named_models,
    printable,
    refuse_same_files,
)
from . import options
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

    output_dir = options.output_dir().tag(config=True)

    level = traits.CaselessStrEnum(
        ["telescope", "array"],
        default_value="telescope",
        help=(
            "Whether to evaluate each telescope's predictions, or the array's. For the"
            " array models' are combined as GammaPhysNetReconstructor does by default."
        ),
    ).tag(config=True)

    telescope_types = options.telescope_types("evaluate").tag(config=True)

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

    gammaness_cut = FiniteFloat(
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

    device = options.device().tag(config=True)

    precision = options.precision().tag(config=True)

    n_jobs = options.n_jobs().tag(config=True)

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
        **options.switch(
            "draw-members",
            "EvaluateGammaPhysNet.draw_members",
            "Draw the curve of each member, too",
        ),
        **options.switch(
            "published",
            "EvaluateGammaPhysNet.published",
            "Draw published resolutions of LST-1, for orientation",
        ),
        **options.switch(
            "allow-training-showers",
            "EvaluateGammaPhysNet.allow_training_showers",
            "Evaluate models on showers that they were trained on",
        ),
        **options.switch(
            "overwrite",
            "EvaluateGammaPhysNet.overwrite",
            "Replace what was written into the output folder before",
        ),
    }

    classes = [TrainingQualityQuery]

    def setup(self):
        """Check all that can be checked before anything is computed."""
        require_modules("pyirf", "matplotlib")
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
        from ..evaluation.dl2_tables import named_groups

        self.model_paths, self.groups = {}, {}
        for text in self.models:
            for name, path in named_models(text):
                self._add(self.model_paths, name, path)
        for text in self.references:
            name, groups = named_groups(text)
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
        from ..evaluation.results import Settings, bin_edges

        energy = self.energy_min, self.energy_max, self.energy_bins_per_decade
        intensity = (
            self.intensity_min,
            self.intensity_max,
            self.intensity_bins_per_decade,
        )
        self.settings = Settings(
            bin_edges("energy", *energy),
            bin_edges("intensity", *intensity),
            self.gammaness_cut,
            self.min_events,
            self.n_bootstrap,
        )

    def _find_telescopes(self):
        """Telescopes of interest in each file, and their types."""
        from ..training.index import check_file

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
        from ..evaluation.dl2_tables import find_groups

        paths = [path for path, _ in self.files]
        self.groups = {
            name: find_groups(paths, self.level, groups)
            for name, groups in self.groups.items()
        }

    def _load_models(self):
        #: Networks of each model, of the telescope types of interest.
        self.networks, self.models_in_words = {}, {}
        if not self.model_paths:
            return
        # Only now: it takes a while.
        from ..evaluation.networks import read_networks

        for name, path in self.model_paths.items():
            model = read_networks(
                path,
                self.types,
                self.arrays,
                self.log,
                device=self.device,
                precision=self.precision,
                n_jobs=self.n_jobs,
            )
            networks = self.networks[name] = list(model.networks.values())
            self.models_in_words[name] = (
                f"{path.name}, SHA-256 {model.sha256[:16]}…, "
                f"{len(networks[0].card.members)} members"
            )

    def start(self):
        """Read the events, predict, and compute all metrics."""
        from ..evaluation.events import read_events
        from ..evaluation.networks import check_unseen
        from ..evaluation.results import evaluate
        from ..evaluation.sample import common_sample, read_sample
        from ..evaluation.spectra import weight_events

        self.query = TrainingQualityQuery(parent=self)
        events = {}
        for path, label in self.files:
            Provenance().add_input_file(path, role="simulated events", add_meta=False)
            of_file = read_events(path, label, self.query, self.tel_ids[path])
            events[path] = of_file
            if len(of_file) > 0 and np.isnan(of_file["intensity"]).all():
                self.log.warning(
                    "%s has no DL1 parameters: all of its telescope events are taken",
                    path,
                )
        self.log.info("Selection of images:\n%s", self.query.to_table(functions=True))
        for name, networks in self.networks.items():
            check_unseen(name, networks, events, self.allow_training_showers, self.log)
        n_images = sum(map(len, events.values())) * len(self.networks)
        with self.progress("images", n_images, "im") as bar:
            samples = [
                read_sample(
                    path,
                    self.level,
                    events[path],
                    self.networks,
                    self.groups,
                    bar.update,
                )
                for path, _ in self.files
            ]
        sample, self.counts = common_sample(samples)
        self.spectra = self.signal_spectrum, self.background_spectrum
        sample = weight_events(sample, self.files, self.spectra)
        self.results = evaluate(sample, self.settings)

    def finish(self):
        """Write tables, figures and the report."""
        from ..evaluation.report import FILES, LISTING, summarise, write_evaluation

        with whole_folder(self.output_dir, LISTING, FILES, self.overwrite) as folder:
            written, gaps, failures = write_evaluation(
                folder,
                self.results,
                self.counts,
                self.settings,
                self._facts(),
                self.draw_members,
                self.published,
                any(self.spectra),
            )
        for path in [*written, folder / LISTING]:
            Provenance().add_output_file(
                self.output_dir / path.name, role="evaluation", add_meta=False
            )
        self.log.info("Valid predictions:\n%s", _text(self.counts))
        self.log.info("Overall:\n%s", _text(summarise(self.results["overall"])))
        for gap in gaps:
            self.log.warning("Not shown: %s", gap)
        for failure in failures:
            self.log.error("Not drawn: %s", failure)
        self.log.info("Wrote %s", self.output_dir / "report.html")
        if failures:
            self.log.error(
                "The tables are complete, but not all figures could be drawn"
            )
            raise SystemExit(1)

    def _facts(self):
        """What the report says of itself."""
        from ..evaluation.report import describe_evaluation

        return describe_evaluation(
            self.models_in_words,
            self.groups,
            self.files,
            self.types,
            self.level,
            [criterion for _, criterion in self.query.quality_criteria],
            self.spectra,
            self.settings,
        )


def _text(table):
    return "\n".join(table.pformat(max_width=-1, max_lines=-1))


def main():
    """Run the tool."""
    EvaluateGammaPhysNet().run()


if __name__ == "__main__":
    main()
