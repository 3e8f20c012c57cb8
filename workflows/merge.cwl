cwlVersion: v1.2
class: CommandLineTool
label: Merge DL2 files
doc: One ctapipe file of several, by ctapipe-merge.

baseCommand: [ctapipe-merge]

hints:
  SoftwareRequirement:
    packages:
      ctapipe: {}

inputs:
  files:
    type: File[]
    doc: The files, of different observations.
    inputBinding: {position: 1}
  output_name:
    type: string
    default: merged.dl2.h5
    doc: Name of the merged file.
    inputBinding: {prefix: --output}

arguments:
  - {prefix: --provenance-log, valueFrom: $(inputs.output_name).provenance.log}

outputs:
  merged:
    type: File
    doc: The merged file.
    outputBinding: {glob: $(inputs.output_name)}
  provenance:
    type: File
    doc: What was done, from what, with which versions.
    outputBinding: {glob: "*.provenance.log"}
