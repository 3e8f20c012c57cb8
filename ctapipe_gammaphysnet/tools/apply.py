"""Apply γ-PhysNet to whole DL1 files."""

from collections import Counter

from ctapipe.core import Provenance, ToolConfigurationError, traits
from ctapipe.io.metadata import Contact, Instrument
from ctapipe.utils import EventTypeFilter

from ..bulk import reconstruct_file, settings_of
from ..dl2.file import differences
from ..events.event_types import are_allowed, count_types, warn_if_none_is_allowed
from ..events.opening import open_events
from ..events.quality import ImageQualityQuery
from ..files.output import check_file, real_path
from ..files.paths import Names, find_files
from ..reconstructor import GammaPhysNetReconstructor
from . import options
from .base import GammaPhysNetTool

__all__ = ["ApplyGammaPhysNet", "main"]


class ApplyGammaPhysNet(GammaPhysNetTool):
    """Apply γ-PhysNet to DL1 files, many images at once.

    The output is what ``ctapipe-process`` writes with ``GammaPhysNetReconstructor``,
    and whatever else the input holds, such as the DL2 of other algorithms. It is many
    times faster: images go to the network in large batches, while others are read and
    written. An output appears when it is complete, and inputs are never changed.
    """

    name = "ctapipe-apply-gammaphysnet"
    description = __doc__
    examples = """
    Reconstruct a night:

    > ctapipe-apply-gammaphysnet --input night.dl1.h5 --model lst.safetensors \\
        --output night.dl2.h5

    Reconstruct several files, except those that are in the folder already:

    > ctapipe-apply-gammaphysnet --input run_1.dl1.h5 run_2.dl1.h5 \\
        --model lst.safetensors --output-dir dl2
    """

    input_urls = Names(
        help="DL1 files, with images and parameters: one or more, or patterns."
    ).tag(config=True)

    output_path = options.output_path(
        help="DL2 file to write, from a single input."
    ).tag(config=True)

    output_dir = options.output_dir(
        help=(
            "Folder for the DL2 files, instead of ``output_path``: ``a.dl1.h5``"
            " becomes ``a.dl2.h5``. It is created if it does not exist. Inputs whose"
            " output exists, made with the same model and settings, are skipped."
        ),
    ).tag(config=True)

    chunk_size = traits.Int(
        2000,
        min=1,
        help=(
            "Number of events that are read and written at once. More take more memory;"
            " images go to the network in batches of their own."
        ),
    ).tag(config=True)

    dl1_images = traits.Bool(
        False, help="Copy the images, true ones included, into the output."
    ).tag(config=True)

    focal_length_choice = options.focal_length_choice().tag(config=True)

    aliases = {
        ("i", "input"): "ApplyGammaPhysNet.input_urls",
        ("o", "output"): "ApplyGammaPhysNet.output_path",
        ("m", "model"): "GammaPhysNetReconstructor.load_path",
        **options.aliases(
            "GammaPhysNetReconstructor",
            *("device", "precision", "engine", "batch-size", "n-jobs"),
        ),
        **options.aliases(
            "ApplyGammaPhysNet", "output-dir", "chunk-size", "focal-length-choice"
        ),
    }

    flags = {
        **traits.flag(
            "dl1-images",
            "ApplyGammaPhysNet.dl1_images",
            "Copy the images into the output",
            "Leave the images out of the output",
        ),
        **options.switches(
            "ApplyGammaPhysNet",
            overwrite="Replace output files that exist",
        ),
    }

    classes = [
        GammaPhysNetReconstructor,
        ImageQualityQuery,
        EventTypeFilter,
        Contact,
        Instrument,
    ]

    def setup(self):
        """Check what can be checked before anything is computed."""
        self.event_types = EventTypeFilter(parent=self)
        if not self.input_urls:
            raise ToolConfigurationError("give at least one DL1 file: --input FILE")
        if (self.output_path is None) == (self.output_dir is None):
            raise ToolConfigurationError(
                "give either the file to write, --output FILE, or the folder for files "
                "to write, --output-dir FOLDER"
            )
        self.paths = [path for text in self.input_urls for path in find_files(text)]
        outputs = self._outputs()
        if self.output_dir is not None:
            self._make_folder()
        for output, count in Counter(map(real_path, outputs)).items():
            if count > 1:
                raise ToolConfigurationError(
                    f"{count} inputs would be written to {output}: give inputs of "
                    "different names, or write them to different folders"
                )
        for output in outputs:
            check_file(output, [*self.paths, *self._configuration_paths()])
        self._pairs = list(zip(self.paths, outputs, strict=True))
        if self.output_path is not None:
            self.check_output(self.output_path)

    def _make_folder(self):
        try:
            self.output_dir.mkdir(exist_ok=True)
        except OSError as error:
            raise ToolConfigurationError(
                f"cannot make the folder {self.output_dir}: {error.strerror}"
            ) from error

    def _outputs(self):
        if self.output_dir is None:
            if len(self.paths) > 1:
                raise ToolConfigurationError(
                    "several inputs need a folder for their outputs: --output-dir"
                )
            return [self.output_path]
        return [self.output_dir / _dl2_name(path) for path in self.paths]

    def start(self):
        """Reconstruct one file after the other."""
        # All existing outputs are checked first: an error in the last one should not
        # come after hours.
        missing = [pair for pair in self._pairs if not self._is_complete(*pair)]
        for path, output in missing:
            if self._is_complete(path, output):  # by another process, meanwhile
                continue
            with open_events(path, self.focal_length_choice) as dl1:
                self._apply(dl1, output)

    def _is_complete(self, path, output):
        if not output.exists() or self.overwrite:
            return False
        with open_events(path, self.focal_length_choice) as dl1:
            reconstructor = GammaPhysNetReconstructor(dl1.subarray, parent=self)
            about = Contact(parent=self), Instrument(parent=self)
            settings = settings_of(
                dl1, reconstructor, self.event_types, self.dl1_images, *about
            )
        found = differences(output, settings)
        if found:
            raise ToolConfigurationError(
                f"{output} exists, but was not made from {path} with "
                f"{reconstructor.load_path} and these settings: {'; '.join(found)}. "
                "Choose another folder, or replace files with --overwrite"
            )
        self.log.info("%s is complete: skipped", output)
        return True

    def _apply(self, dl1, output):
        reconstructor = GammaPhysNetReconstructor(dl1.subarray, parent=self)
        check_file(output, [reconstructor.load_path])
        if dl1.n_events == 0:
            self.log.warning("%s has no events", dl1.path)
        Provenance().add_input_file(dl1.path, role="DL1 images", add_meta=False)
        kept = are_allowed(dl1.event_type, self.event_types)
        warn_if_none_is_allowed(dl1.path, dl1.event_type, self.event_types)
        with self.progress(output.name, int(kept.sum()), "ev") as bar:
            reconstruct_file(
                dl1,
                output,
                reconstructor,
                self.event_types,
                self.chunk_size,
                self.dl1_images,
                Contact(parent=self),
                Instrument(parent=self),
                bar.update,
            )
        Provenance().add_output_file(output, role="DL2/Event")
        counts = reconstructor.quality_query.to_table()
        self.log.info(
            "Wrote %s: %d events%s. Images of telescopes:\n%s",
            output,
            kept.sum(),
            "" if kept.all() else f", without {count_types(dl1.event_type[~kept])}",
            "\n".join(counts.pformat(max_lines=-1, max_width=-1)),
        )
        for text in reconstructor.domain_watch.describe():
            self.log.info("%s: outside of the training: %s", dl1.path, text)


def _dl2_name(path):
    return f"{path.name.removesuffix('.h5').removesuffix('.dl1')}.dl2.h5"


def main():
    """Run the tool."""
    ApplyGammaPhysNet().run()


if __name__ == "__main__":
    main()
