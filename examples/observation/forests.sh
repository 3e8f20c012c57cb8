#!/usr/bin/env bash
# The same nights with ctapipe's own reconstruction: random forests of energy and gammaness
# and HillasReconstructor.
#
#     ./forests.sh FOLDER [SETTINGS]
#
# FOLDER has the night and the pool of observe.sh. The forests are trained on
# pool/forests/gamma.dl1.h5 and proton.dl1.h5, which are simulated if they don't exist,
# with the configurations of ../comparison. All output is in FOLDER/forests.
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
folder=$(realpath "$1")
settings=$(realpath "${2:-$here}")
processes=${PROCESSES:-$(nproc)}
nights=${NIGHTS:-300}
comparison=$here/../comparison
out=$folder/forests
mkdir -p "$out"/{irf,pool/irf,pool/sky,pool/forests}
cd "$out" # for provenance logs, too

echo "==> Forests"
if [ ! -e ../pool/forests/gamma.dl1.h5 ]; then
    python "$here/../simulation/simulate.py" "$settings"/forests/*.airshower.yaml \
        --output-dir ../pool/forests --processes "$processes"
fi
[ -e energy.pkl ] || ctapipe-train-energy-regressor --overwrite --output energy.pkl \
    --config "$comparison/forests_energy.yaml" --n-jobs "$processes" \
    --input ../pool/forests/gamma.dl1.h5
if [ ! -e classifier.pkl ]; then
    for particle in gamma proton; do
        ctapipe-apply-models --input "../pool/forests/$particle.dl1.h5" --overwrite \
            --reconstructor energy.pkl --output "pool/forests/$particle.dl2.h5" \
            --no-dl1-images --no-true-images
    done
    ctapipe-train-particle-classifier --overwrite --output classifier.pkl \
        --config "$comparison/forests_classifier.yaml" --n-jobs "$processes" \
        --signal pool/forests/gamma.dl2.h5 --background pool/forests/proton.dl2.h5
fi

echo "==> DL2: HillasReconstructor and forests"
for dl1 in ../pool/{irf,sky}/*.dl1.h5 ../night.dl1.h5; do
    dl2=${dl1#../}
    dl2=${dl2/.dl1./.dl2.}
    [ ! "$dl2" -nt "$dl1" ] || continue
    ctapipe-process --input "$dl1" --output "geometry.h5" --overwrite --quiet \
        --ShowerProcessor.reconstructor_types=HillasReconstructor \
        --DataWriter.write_dl1_parameters=True --DataWriter.write_dl2=True
    ctapipe-apply-models --input geometry.h5 --output "$dl2" --overwrite \
        --reconstructor energy.pkl --reconstructor classifier.pkl
done
rm -f geometry.h5

echo "==> Cuts, instrument response, event lists"
configs=("$here"/{irf,forests}.yaml)
options=("${configs[@]/#/--config=}" --gamma-file=pool/irf/gamma.dl2.h5
    --proton-file=pool/irf/proton.dl2.h5 --electron-file=pool/irf/electron.dl2.h5)
ctapipe-optimize-event-selection "${options[@]}" --output irf/cuts.fits --overwrite
ctapipe-compute-irf "${options[@]}" --cuts irf/cuts.fits --output irf/irf.fits.gz \
    --overwrite
python "$here/make_event_lists.py" --input night.dl2.h5 --pointing ../night.dl1.h5 \
    --config "${configs[@]}" \
    --cuts irf/cuts.fits --irf irf/irf.fits.gz --output-dir dl3

[ "$nights" -gt 0 ] || exit 0
echo "==> $nights nights with the source, and as many without"
python "$here/nights.py" --pool pool/sky --irf-gammas pool/irf/gamma.dl2.h5 \
    --night "$settings/night.yaml" --config "${configs[@]}" --classes irf \
    --nights "$nights" --output-dir nights
