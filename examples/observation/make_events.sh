#!/usr/bin/env bash
# From DL1 of a night to event lists: reconstruction, cuts, instrument response.
#
#     ./make_events.sh FOLDER [CLASS.yaml ...]
#
# FOLDER has night.dl1.h5 (from make_observation.py) and pool/irf with simulated showers
# that are not in the night. Each class of events gets a folder in irf and dl3; "all" is
# made in any case.
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
folder=$(realpath "$1")
classes=("${@:2}")
model="$here/../data/lst_demonstration.safetensors"

echo "==> DL2: γ-PhysNet"
cd "$folder" # for the provenance log, too
for dl1 in pool/irf/{gamma,proton,electron}.dl1.h5 night.dl1.h5; do
    dl2=${dl1/.dl1./.dl2.}
    [ "$dl2" -nt "$dl1" ] || ctapipe-apply-gammaphysnet --input "$dl1" --output "$dl2" \
        --model "$model" --overwrite
done

make_class() { # name, configurations
    name=$1
    configs=("${@:2}")
    options=("${configs[@]/#/--config=}")
    files=(--gamma-file=pool/irf/gamma.dl2.h5 --proton-file=pool/irf/proton.dl2.h5
        --electron-file=pool/irf/electron.dl2.h5)
    mkdir -p "irf/$name"
    ctapipe-optimize-event-selection "${options[@]}" "${files[@]}" \
        --output "irf/$name/cuts.fits" --overwrite
    ctapipe-compute-irf "${options[@]}" --cuts "irf/$name/cuts.fits" "${files[@]}" \
        --output "irf/$name/irf.fits.gz" --overwrite
    python "$here/make_event_lists.py" --input night.dl2.h5 --config "${configs[@]}" \
        --cuts "irf/$name/cuts.fits" --irf "irf/$name/irf.fits.gz" --output-dir "dl3/$name"
}

echo "==> Cuts, instrument response, event lists: all events"
make_class all "$here/irf.yaml"
for class in "${classes[@]}"; do
    name=$(basename "$class" .yaml)
    echo "==> $name"
    make_class "$name" "$here/irf.yaml" "$class"
done
