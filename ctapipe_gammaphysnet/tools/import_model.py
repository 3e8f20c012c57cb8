"""Import a network that gammalearn trained."""

import astropy.units as u
from ctapipe.core import Provenance, ToolConfigurationError, traits
from ctapipe.instrument import CameraGeometry, SubarrayDescription
from ctapipe.io import EventSource
from tables import is_hdf5_file

from ..files.input_file import reading, sha256_of_file
from ..files.output import check_file
from ..files.paths import FilePath
from ..model.file import write_model
from ..model.telescope import check_alike, describe_telescope
from . import options
from .base import GammaPhysNetTool

__all__ = ["ImportGammaPhysNet", "main"]

_input_file = {
    "default_value": None,
    "allow_none": True,
    "directory_ok": False,
    "exists": True,
}


class ImportGammaPhysNet(GammaPhysNetTool):
    """Make a model file from a network that gammalearn trained.

    It imports γ-PhysNet and γ-PhysNet DA with indexed convolutions and ReLU, of any
    depth and width. The model predicts what gammalearn predicts: its targets and its
    treatment of missing values are kept. Anything else is refused with the reason.

    A checkpoint does not hold the activation, the classes or the input: gammalearn's
    settings do. The settings are never run, nor is code in the checkpoint. A telescope
    is needed, since a model fits one telescope only. Filters of images and events in
    the settings are not applied: a warning names them, and criteria that do the same.

    gammalearn uses the camera ``LSTCam`` of ctapipe, which may list its pixels in
    another order than the file of the telescope. Then give that camera, too. In the
    environment of gammalearn, ``CameraGeometry.from_name("LSTCam").to_table().write(
    "LSTCam.camgeom.fits.gz")`` writes it.
    """

    name = "ctapipe-import-gammaphysnet"
    description = __doc__
    examples = """
    Import a checkpoint for the LST of a DL1 file:

    > ctapipe-import-gammaphysnet --checkpoint checkpoint.ckpt \\
        --settings settings.json --telescope lst.dl1.h5 \\
        --camera LSTCam.camgeom.fits.gz --output lst.safetensors

    Show the model:

    > ctapipe-show-gammaphysnet lst.safetensors
    """

    checkpoint = FilePath(
        help="Checkpoint that gammalearn wrote (``.ckpt``).", **_input_file
    ).tag(config=True)

    settings = FilePath(
        help=(
            "Settings of its training: the ``settings.json`` beside the checkpoint, or"
            " the settings in Python (``.py``), which show more."
        ),
        **_input_file,
    ).tag(config=True)

    telescope = FilePath(
        help="File with the telescope: any that ctapipe reads, or lstchain's DL1.",
        **_input_file,
    ).tag(config=True)

    telescope_type = traits.Unicode(
        None,
        allow_none=True,
        help="Telescope type, e.g. LST_LST_LSTCam, if the file has several.",
    ).tag(config=True)

    camera = FilePath(
        help=(
            "Camera of the training, as ctapipe writes a camera geometry, if it lists"
            " the pixels in another order than the telescope. A wrong camera is"
            " refused."
        ),
        **_input_file,
    ).tag(config=True)

    output_path = options.output_path(help="Model file to write.").tag(config=True)

    focal_length_choice = options.focal_length_choice().tag(config=True)

    aliases = {
        **options.aliases(
            "ImportGammaPhysNet",
            *("checkpoint", "settings", "telescope", "telescope-type", "camera"),
            "focal-length-choice",
        ),
        ("o", "output"): "ImportGammaPhysNet.output_path",
    }

    flags = options.switches(
        "ImportGammaPhysNet", overwrite="Replace the model file if it exists"
    )

    def setup(self):
        """Check that all files are given, and that the model can be written."""
        needed = {
            "checkpoint": self.checkpoint,
            "settings": self.settings,
            "telescope": self.telescope,
            "output": self.output_path,
        }
        if missing := [name for name, path in needed.items() if path is None]:
            raise ToolConfigurationError(f"give a file: --{missing[0]} FILE")
        self._inputs = {
            "gammalearn checkpoint": self.checkpoint,
            "gammalearn settings": self.settings,
            "telescope": self.telescope,
        }
        if self.camera is not None:
            self._inputs["camera of the training"] = self.camera
        inputs = [*self._inputs.values(), *self._configuration_paths()]
        check_file(self.output_path, inputs)
        self.check_output(self.output_path)

    def start(self):
        """Read, convert and write."""
        # Imported here: PyTorch takes a while.
        from ..gammalearn.checkpoint import read_checkpoint
        from ..gammalearn.errors import ImportedModelError
        from ..gammalearn.model import import_model
        from ..gammalearn.settings import read_settings

        settings = read_settings(self.settings)
        for doubt in settings.doubts:
            self.log.warning("%s: %s", self.settings, doubt)
        weights, record = read_checkpoint(self.checkpoint)
        record["checkpoint (SHA-256)"] = sha256_of_file(self.checkpoint)
        telescope = describe_telescope(self._find_telescope())
        camera = None if self.camera is None else _read_camera(self.camera)
        try:
            self.model = import_model(weights, record, settings, telescope, camera)
        except ImportedModelError as error:
            raise ImportedModelError(f"{self.checkpoint}: {error}") from None

    def finish(self):
        """Write the model file."""
        for role, path in self._inputs.items():
            Provenance().add_input_file(path, role=role, add_meta=False)
        write_model(self.output_path, self.model, self.overwrite)
        Provenance().add_output_file(
            self.output_path, role="γ-PhysNet model", add_meta=False
        )
        network = self.model.card.networks[0]
        self.log.info(
            "Wrote %s: %s for %s",
            self.output_path,
            ", ".join(network.network.tasks),
            network.telescope.type,
        )

    def _find_telescope(self):
        """The only telescope type of the file, or the one asked for."""
        subarray = _read_subarray(self.telescope, self.focal_length_choice)
        types = {str(telescope) for telescope in subarray.telescope_types}
        if self.telescope_type is not None and self.telescope_type not in types:
            raise ToolConfigurationError(
                f"{self.telescope} has no telescope type {self.telescope_type}, only "
                f"{', '.join(sorted(types))}"
            )
        if self.telescope_type is None and len(types) > 1:
            raise ToolConfigurationError(
                f"{self.telescope} has several telescope types: choose one with "
                f"--telescope-type: {', '.join(sorted(types))}"
            )
        name = self.telescope_type or min(types)
        return check_alike({self.telescope: subarray}, name)


def _read_subarray(path, focal_length_choice):
    if is_hdf5_file(path):
        with reading(path):
            # Also files that no event source reads.
            return SubarrayDescription.from_hdf(path, focal_length_choice)
    try:
        with EventSource(path, focal_length_choice=focal_length_choice) as source:
            return source.subarray
    except Exception as error:
        # Each source has errors of its own.
        raise ToolConfigurationError(
            f"{path} has no telescope that ctapipe can read: {_first_line(error)}"
        ) from error


def _read_camera(path):
    """Positions of a camera's pixels in m, in its order."""
    try:
        geometry = CameraGeometry.from_table(str(path))
    except Exception as error:
        # The errors of astropy's readers are of any kind.
        raise ToolConfigurationError(
            f"{path} is not a camera geometry of ctapipe: {_first_line(error)}"
        ) from error
    return tuple(x.to_value(u.m) for x in (geometry.pix_x, geometry.pix_y))


def _first_line(error):
    return str(error).strip().partition("\n")[0] or type(error).__name__


def main():
    """Run the tool."""
    ImportGammaPhysNet().run()


if __name__ == "__main__":
    main()
