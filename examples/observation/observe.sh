#!/usr/bin/env bash
# From simulated showers to a source on the sky, with a planted truth.
#
#     ./observe.sh [FOLDER [SETTINGS]]
#
# SETTINGS is a folder with night.yaml and the cards in sky and irf, by default this one.
# If started again, only what is missing in FOLDER is simulated and reconstructed.
# PROCESSES is the number of simulations at once (default: one per core), NIGHTS the number
# of nights of the study (default 300; 0 leaves it out).
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
folder=$(realpath "${1:-observation}")
settings=$(realpath "${2:-$here}")
processes=${PROCESSES:-$(nproc)}
nights=${NIGHTS:-300}
mkdir -p "$folder"

echo "==> Simulated showers: of the sky, and others for the instrument response"
for part in sky irf; do
    python "$here/../simulation/simulate.py" "$settings/$part"/*.airshower.yaml \
        --output-dir "$folder/pool/$part" --processes "$processes" -- \
        --DataWriter.transform_image=True --DataWriter.transform_peak_time=True
done

echo "==> A night"
cd "$folder" # for provenance logs, too
python "$here/make_observation.py" --pool pool/sky --night "$settings/night.yaml" \
    --output night.dl1.h5
"$here/make_events.sh" . "$here"/{small,large}_errors.yaml

echo "==> Significance, map and spectrum: all events, and two classes by their errors"
read -r ra dec < <(python -c "
import sys, yaml
source = yaml.safe_load(open(sys.argv[1]))['source']
print(source['ra'].replace(' ', ''), source['dec'].replace(' ', ''))
" "$settings/night.yaml")
python "$here/analyse.py" dl3/all --position "$ra" "$dec" --output-dir figures/all
python "$here/analyse.py" dl3/{small,large}_errors --position "$ra" "$dec" \
    --output-dir figures/two_classes

[ "$nights" -gt 0 ] || exit 0
echo "==> $nights nights with the source, and as many without"
for dl1 in pool/sky/*.dl1.h5; do
    dl2=${dl1/.dl1./.dl2.}
    [ "$dl2" -nt "$dl1" ] || ctapipe-apply-gammaphysnet --input "$dl1" --output "$dl2" \
        --model "$here/../data/lst_demonstration.safetensors" --overwrite
done
study=(python "$here/nights.py" --pool pool/sky --irf-gammas pool/irf/gamma.dl2.h5
    --night "$settings/night.yaml" --nights "$nights")
"${study[@]}" --classes irf/all --output-dir nights/all
"${study[@]}" --classes irf/{small,large}_errors --output-dir nights/two_classes
