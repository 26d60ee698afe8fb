#!/usr/bin/env bash
# The offline pipeline of PWC-Net as a frozen TensorFlow graph. Without arguments it runs on random weights and two synthetic pairs;
# with their checkpoint and data it is theirs:
#   offline.sh pwcnet-53000 sintel-clean:dataset/MPI-Sintel-complete 448x1024
# OUT names the folder of the results, FERROFLOW the program.
set -euo pipefail
ferroflow=${FERROFLOW:-$(cd "$(dirname "$0")/../.." && pwd)/target/release/ferroflow}
out=${OUT:-$(mktemp -d)}

checkpoint=${1:-$out/checkpoint/pwcnet-53000} data=${2:-chairs:$out/data} size=${3:-128x192}
if [ $# -eq 0 ]; then
    "$ferroflow" weights random pwcnet-lg-6-2 -o "$out/weights.safetensors"
    "$ferroflow" weights export "$out/weights.safetensors" --to tensorflow -o "$checkpoint"
    "$ferroflow" synth sdhom --count 2 --size 100x150 -o "$out/data"
fi

# offline_infer/convert_ckpt2pb.py --ckpt CHECKPOINT
"$ferroflow" export tensorflow -w "$checkpoint" -o "$out/pwcnet.pb" --size "$size"
# offline_infer/dataprep.py --dataset DATA --output offline_infer/Bin
"$ferroflow" export inputs "$data" -o "$out/Bin" --layout pwcnet --format bin
# msame --model pwcnet.om --input Bin/image --output results --loop 2
"$ferroflow" run "$checkpoint" "$out/Bin" -o "$out/results" --loop 2
# offline_infer/evaluation.py --gt_path Bin/gt --output_path results
"$ferroflow" score "$out/Bin" --outputs "$out/results"
echo "results in $out"
