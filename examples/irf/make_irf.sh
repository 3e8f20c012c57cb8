#!/usr/bin/env bash
# From simulated showers to instrument response functions, with γ-PhysNet and ctapipe.
#
#     ./make_irf.sh [FOLDER]
#
# If started again, it simulates only the files that are missing in the folder.
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
folder=$(realpath "${1:-irf}")
mkdir -p "$folder"
cd "$folder" # for the provenance log, too

echo "==> DL1: images of gammas, protons and electrons"
for particle in gamma proton electron; do
    [ -e $particle.dl1.h5 ] || python "$here/../simulation/simulate.py" \
        --output-dir . "$here/$particle.airshower.yaml"
done

echo "==> DL2: γ-PhysNet"
ctapipe-apply-gammaphysnet --input {gamma,proton,electron}.dl1.h5 --output-dir . \
    --model "$here/../data/lst_demonstration.safetensors" --overwrite

files=(--gamma-file gamma.dl2.h5 --proton-file proton.dl2.h5
    --electron-file electron.dl2.h5)

echo "==> Cuts on gammaness and direction"
ctapipe-optimize-event-selection --config "$here/irf.yaml" "${files[@]}" \
    --output cuts.fits --overwrite

echo "==> Instrument response"
ctapipe-compute-irf --config "$here/irf.yaml" --cuts cuts.fits "${files[@]}" \
    --output irf.fits.gz --benchmark-output benchmarks.fits.gz --overwrite

echo "==> $folder/irf.fits.gz; to look at it with gammapy:"
echo "python $here/show_irf.py $folder/irf.fits.gz"
