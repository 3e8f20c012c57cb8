cwlVersion: v1.2
class: Workflow
label: Reconstruct many DL1 files with γ-PhysNet
doc: |
  Each DL1 file is reconstructed on its own, on as many machines as there are, and the
  DL2 files are merged into one.

requirements:
  ScatterFeatureRequirement: {}

inputs:
  dl1:
    type: File[]
    doc: DL1 files of different observations, with images and parameters.
  model:
    type: File
    doc: Model file of γ-PhysNet.
  config:
    type: File?
    doc: Configuration of ctapipe-apply-gammaphysnet.
  n_jobs:
    type: int
    default: 1
    doc: Number of threads for each file.
  device:
    type: string
    default: auto
    doc: Where to compute, for example cpu or cuda.
  output_name:
    type: string
    default: merged.dl2.h5
    doc: Name of the merged file.

steps:
  apply:
    run: apply.cwl
    scatter: dl1
    in:
      dl1: dl1
      model: model
      config: config
      n_jobs: n_jobs
      device: device
    out: [dl2, provenance]
  merge:
    run: merge.cwl
    in:
      files: apply/dl2
      output_name: output_name
    out: [merged]

outputs:
  dl2:
    type: File
    doc: The merged DL2 file.
    outputSource: merge/merged
  provenance:
    type: File[]
    doc: What was done to each file.
    outputSource: apply/provenance
