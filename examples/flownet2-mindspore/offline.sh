#!/usr/bin/env bash
# Conversion, evaluation and export of the MindSpore FlowNet2. Without arguments it runs on random weights of FlowNet2S and four
# synthetic pairs; with NVIDIA's checkpoint and Sintel it is theirs:
#   offline.sh FlowNet2_checkpoint.pth.tar sintel-clean:MPI-Sintel-complete 448x1024
# OUT names the folder of the results, FERROFLOW the program.
set -euo pipefail
ferroflow=${FERROFLOW:-$(cd "$(dirname "$0")/../.." && pwd)/target/release/ferroflow}
out=${OUT:-$(mktemp -d)}

pth=${1:-$out/FlowNet2S_checkpoint.pth.tar} data=${2:-chairs:$out/data} size=${3:-128x192}
if [ $# -eq 0 ]; then
    "$ferroflow" weights random flownet2-s -o "$out/random.safetensors"
    "$ferroflow" weights export "$out/random.safetensors" --to pytorch -o "$pth"
    "$ferroflow" synth sdhom --count 4 --size 128x192 -o "$out/data"
fi

# bash scripts/run_ckpt_convert.sh PTH CKPT
"$ferroflow" weights export "$pth" --to mindspore -o "$out/flownet2.ckpt"
# bash scripts/run_eval_gpu.sh DATA DATA_PATH MODEL CKPT
"$ferroflow" eval "$data" -w "$out/flownet2.ckpt" --protocol flownet2 | tee "$out/eval.log"
# file_format: MINDIR. The file that MindSpore's converter_lite takes: --fmk=ONNX --saveType=MINDIR
"$ferroflow" export onnx -w "$out/flownet2.ckpt" -o "$out/Flownet2.onnx" --size "$size" --opset 11 --check
echo "results in $out"
