cwlVersion: v1.2
class: CommandLineTool
label: Reconstruct a DL1 file with γ-PhysNet
doc: |
  DL2 of all events of one ctapipe DL1 file with images and parameters, by
  ctapipe-apply-gammaphysnet. "a.dl1.h5" becomes "a.dl2.h5".

baseCommand: [ctapipe-apply-gammaphysnet, --no-progress, --output-dir, .]

hints:
  SoftwareRequirement:
    packages:
      ctapipe_gammaphysnet: {}
  ResourceRequirement:
    coresMin: $(inputs.n_jobs)
    ramMin: 3000

inputs:
  dl1:
    type: File
    doc: DL1 file, with images and parameters.
    inputBinding: {prefix: --input}
  model:
    type: File
    doc: Model file of γ-PhysNet.
    inputBinding: {prefix: --model}
  config:
    type: File?
    doc: Configuration of the tool, YAML, JSON or TOML.
    inputBinding: {prefix: --config}
  n_jobs:
    type: int
    default: 1
    doc: Number of threads.
    inputBinding: {prefix: --n-jobs}
  device:
    type: string
    default: auto
    doc: Where to compute, for example cpu or cuda.
    inputBinding: {prefix: --device}
  batch_size:
    type: int?
    doc: Images per forward pass.
    inputBinding: {prefix: --batch-size}
  dl1_images:
    type: boolean
    default: false
    doc: Copy the images into the output, too.
    inputBinding: {prefix: --dl1-images}

arguments:
  - {prefix: --provenance-log, valueFrom: $(inputs.dl1.nameroot).provenance.log}

outputs:
  dl2:
    type: File
    doc: DL2 file.
    outputBinding: {glob: "*.dl2.h5"}
  provenance:
    type: File
    doc: What was done, from what, with which versions.
    outputBinding: {glob: "*.provenance.log"}
