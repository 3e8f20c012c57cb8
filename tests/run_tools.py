"""Run the tools that reconstruct: this package's for whole files, and ctapipe's."""

from ctapipe.core import run_tool
from ctapipe.tools.process import ProcessorTool
from device import DEVICE

from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet


def apply(inputs, model, output, *options):
    """Run ctapipe-apply-gammaphysnet, and return the output."""
    inputs = [inputs] if not isinstance(inputs, list) else inputs
    argv = [
        "--input",
        *map(str, inputs),
        f"--model={model}",
        f"--output{'-dir' * output.is_dir()}={output}",
        f"--provenance-log={output}.provenance.log",
        f"--device={DEVICE}",
        "--no-progress",
        *options,
    ]
    run_tool(ApplyGammaPhysNet(), argv=argv, cwd=output.parent, raises=True)
    return output


def process(path, model, output, *options):
    """Run ctapipe-process with γ-PhysNet, and return the output."""
    argv = [
        f"--input={path}",
        f"--output={output}",
        "--write-showers",
        "--reconstructor=GammaPhysNetReconstructor",
        f"--GammaPhysNetReconstructor.load_path={model}",
        f"--provenance-log={output}.provenance.log",
        *options,
    ]
    run_tool(ProcessorTool(), argv=argv, cwd=output.parent, raises=True)
    return output
