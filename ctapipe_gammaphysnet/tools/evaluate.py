"""Evaluate γ-PhysNet, and compare it with other algorithms."""

from ctapipe.core import Provenance, traits
from ctapipe.utils import EventTypeFilter

from ..configuration.traits import FiniteFloat
from ..evaluation.inputs import SPECTRA, choose_telescopes, name_algorithms
from ..events.opening import read_subarray
from ..events.quality import TrainingQualityQuery
from ..files.inputs import find_inputs, with_labels
from ..files.output import check_folder, whole_folder
from ..files.paths import Names, find_files
from . import options
from .base import GammaPhysNetTool
from .ending import end_without_figures
from .extras import require_modules

__all__ = ["EvaluateGammaPhysNet", "main"]


class EvaluateGammaPhysNet(GammaPhysNetTool):
    """Evaluate γ-PhysNet and other algorithms on the same simulated events.

    Resolutions and bias in bins of true energy, separation of gammas and background,
    coverage of predicted uncertainties, and the dispersion over the members of a model:
    as tables, figures and a report.
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

    Compare predictions of the array in DL2 files:

    > ctapipe-evaluate-gammaphysnet --reference GammaPhysNet HillasReconstructor \\
        --level array --signal gamma.dl2.h5 --background proton.dl2.h5 \\
        --output-dir evaluation
    """

    models = Names(
        help=(
            "Model files, which predict from the images of the files; ``NAME=FILE`` to"
            " give one another name than its file."
        ),
    ).tag(config=True)

    references = traits.List(
        traits.Unicode(),
        help=(
            "Algorithms whose DL2 is in the files, by their prefixes, for example"
            " ``HillasReconstructor`` or ``GammaPhysNet``;"
            " ``NAME=PREFIX,PREFIX`` if properties have different ones."
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
            " Without any, the separation of gammas from it is not evaluated."
        ),
    ).tag(config=True)

    output_dir = options.output_dir().tag(config=True)

    level = traits.CaselessStrEnum(
        ["telescope", "array"],
        default_value="telescope",
        help=(
            "Whether to evaluate each telescope's predictions, or the array's. Models'"
            " are combined as GammaPhysNetReconstructor does by default."
        ),
    ).tag(config=True)

    telescope_types = options.telescope_types("evaluate").tag(config=True)

    # The bins of CTAO's performance figures: five per decade, from 10^-1.9 TeV.
    energy_min = traits.Float(
        10**-1.9, min=0, help="Lower edge of the bins in true energy, in TeV."
    ).tag(config=True)

    energy_max = traits.Float(
        10**2.1, help="Upper limit of the bins in true energy, in TeV."
    ).tag(config=True)

    energy_bins_per_decade = traits.Int(
        5, min=1, help="Number of bins in true energy per decade."
    ).tag(config=True)

    intensity_min = traits.Float(
        50, min=0, help="Lower edge of the bins in intensity, in p.e."
    ).tag(config=True)

    intensity_max = traits.Float(
        50_000, help="Upper limit of the bins in intensity, in p.e."
    ).tag(config=True)

    intensity_bins_per_decade = traits.Int(
        3, min=1, help="Number of bins in intensity per decade."
    ).tag(config=True)

    min_events = traits.Int(
        20,
        min=1,
        help=(
            "Bins with fewer gammas stay empty; for metrics of the separation also"
            " those with less background."
        ),
    ).tag(config=True)

    gammaness_cut = FiniteFloat(
        0.5,
        min=0,
        max=1,
        help="Events with this gammaness or more are classified as gamma.",
    ).tag(config=True)

    n_bootstrap = traits.Int(
        100,
        min=0,
        help="Number of bootstrap samples of showers, for statistical errors.",
    ).tag(config=True)

    signal_spectrum = traits.CaselessStrEnum(
        SPECTRA,
        default_value=None,
        allow_none=True,
        help=(
            "Spectrum of pyirf to which gammas are weighted. Only its shape matters."
            " Default: as simulated."
        ),
    ).tag(config=True)

    background_spectrum = traits.CaselessStrEnum(
        SPECTRA,
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

    atmosphere = options.atmosphere().tag(config=True)

    device = options.device().tag(config=True)

    precision = options.precision().tag(config=True)

    n_jobs = options.n_jobs().tag(config=True)

    aliases = {
        ("m", "model"): "EvaluateGammaPhysNet.models",
        "reference": "EvaluateGammaPhysNet.references",
        ("o", "output-dir"): "EvaluateGammaPhysNet.output_dir",
        **options.aliases(
            "EvaluateGammaPhysNet",
            *("signal", "background", "level", "telescope-types", "gammaness-cut"),
            *("min-events", "device", "atmosphere", "precision", "n-jobs"),
        ),
    }

    flags = options.switches(
        "EvaluateGammaPhysNet",
        draw_members="Draw the curve of each member, too",
        published="Draw published resolutions of LST-1, for orientation",
        allow_training_showers="Evaluate models on showers that they were trained on",
        overwrite="Replace earlier results in the output folder",
    )

    classes = [TrainingQualityQuery, EventTypeFilter]

    def setup(self):
        """Check all that can be checked before anything is computed."""
        require_modules("pyirf", "matplotlib")

        # Imported here: help must not wait for pyirf.
        from ..evaluation.report import FILES, LISTING

        paths, groups = name_algorithms(self.models, self.references)
        background = [path for text in self.background for path in find_files(text)]
        #: Files and their labels.
        self.files = with_labels(
            {"signal": find_inputs("signal", self.signal), "background": background}
        )
        inputs = [*paths.values(), *(path for path, _ in self.files)]
        check_folder(self.output_dir, LISTING, FILES, inputs, self.overwrite)
        self.evaluation = self._prepare(paths, groups, self._metrics())

    def _metrics(self):
        from ..evaluation.results import Settings, bin_edges

        energy = self.energy_min, self.energy_max, self.energy_bins_per_decade
        per_decade = self.intensity_bins_per_decade
        intensity = self.intensity_min, self.intensity_max, per_decade
        return Settings(
            bin_edges("energy", *energy),
            bin_edges("intensity", *intensity),
            self.gammaness_cut,
            self.min_events,
            self.n_bootstrap,
        )

    def _prepare(self, model_paths, groups, metrics):
        """Look for telescopes and DL2 in the files, and load the models."""
        from ..evaluation.dl2_tables import find_groups
        from ..evaluation.networks import read_models
        from ..evaluation.run import Evaluation
        from ..training.index import check_file

        # Networks need the images, other algorithms only their DL2.
        read = check_file if model_paths else read_subarray
        arrays = {path: read(path) for path, _ in self.files}
        tel_ids, types = choose_telescopes(arrays, self.telescope_types)
        settings = {"device": self.device, "n_jobs": self.n_jobs}
        settings["precision"] = self.precision
        groups = {n: find_groups(arrays, self.level, g) for n, g in groups.items()}
        return Evaluation(
            files=self.files,
            tel_ids=tel_ids,
            types=types,
            level=self.level,
            groups=groups,
            model_paths=model_paths,
            models=read_models(model_paths, types, arrays, self.log, **settings),
            spectra=(self.signal_spectrum, self.background_spectrum),
            settings=metrics,
            atmosphere=self.atmosphere,
        )

    def start(self):
        """Read the events, predict, and compute all metrics."""
        for path, _ in self.files:
            Provenance().add_input_file(path, role="simulated events", add_meta=False)
        self.evaluation.read(TrainingQualityQuery(parent=self), self.log)
        self.evaluation.check_unseen(self.allow_training_showers, self.log)
        with self.progress("images", self.evaluation.n_images, "im") as bar:
            self.evaluation.compute(bar.update)

    def finish(self):
        """Write tables, figures and the report."""
        from ..evaluation.report import FILES, LISTING

        with whole_folder(self.output_dir, LISTING, FILES, self.overwrite) as folder:
            written, failures = self.evaluation.write(
                folder, self.draw_members, self.published, self.log
            )
        for path in [*written, folder / LISTING]:
            Provenance().add_output_file(
                self.output_dir / path.name, role="evaluation", add_meta=False
            )
        self.log.info("Wrote %s", self.output_dir / "report.html")
        if failures:
            end_without_figures(self.log)


def main():
    """Run the tool."""
    EvaluateGammaPhysNet().run()


if __name__ == "__main__":
    main()
