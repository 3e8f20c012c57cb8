cwlVersion: v1.2
class: CommandLineTool
label: Train γ-PhysNet
doc: |
  A model file with a member for each seed, trained on simulated DL1 files by
  ctapipe-train-gammaphysnet.

baseCommand: [ctapipe-train-gammaphysnet, --no-progress]

hints:
  SoftwareRequirement:
    packages:
      ctapipe_gammaphysnet: {}
  ResourceRequirement:
    coresMin: $(inputs.n_jobs)
    ramMin: 4000

inputs:
  signal:
    type: File[]
    doc: DL1 files of simulated gammas, with images and parameters.
    inputBinding: {prefix: --signal}
  background:
    type: File[]
    doc: DL1 files of simulated background.
    inputBinding: {prefix: --background}
  init_from:
    type: File?
    doc: Model file with whose weights the training begins.
    inputBinding: {prefix: --init-from}
  config:
    type: File?
    doc: Configuration of the tool, YAML, JSON or TOML.
    inputBinding: {prefix: --config}
  seeds:
    type: int[]
    default: [0]
    doc: One member is trained from each.
    inputBinding: {prefix: --seeds}
  epochs:
    type: int?
    doc: Number of epochs.
    inputBinding: {prefix: --epochs}
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
  output_name:
    type: string
    default: model.safetensors
    doc: Name of the model file.
    inputBinding: {prefix: --output}

outputs:
  model:
    type: File
    doc: The model file.
    outputBinding: {glob: $(inputs.output_name)}
  records:
    type: Directory
    doc: Figures after each epoch, and curves.
    outputBinding: {glob: "*.training"}
  provenance:
    type: File
    doc: What was done, from what, with which versions.
    outputBinding: {glob: "*.provenance.log"}
