#!/usr/bin/env bash
# The offline pipeline of FlowNet2 as an ONNX file, with no other tool. Without arguments it runs on random weights of FlowNetS and
# two synthetic pairs; with their checkpoint and data it is theirs:
#   offline.sh FlowNet2_checkpoint.pth.tar sintel-clean:MPI-Sintel-complete 448x1024
# OUT names the folder of the results, FERROFLOW the program.
set -euo pipefail
ferroflow=${FERROFLOW:-$(cd "$(dirname "$0")/../.." && pwd)/target/release/ferroflow}
out=${OUT:-$(mktemp -d)}

weights=${1:-$out/weights.safetensors} data=${2:-chairs:$out/data} size=${3:-128x192}
if [ $# -eq 0 ]; then
    "$ferroflow" weights random flownet2-s -o "$weights"
    "$ferroflow" synth sdhom --count 2 --size 100x150 -o "$out/data"
fi

# Flownet2_preprocess.py --dataset DATA --output data_preprocessed_bs1 --batch_size 1
"$ferroflow" export inputs "$data" -o "$out/data_preprocessed_bs1" --layout flownet2 --format bin --batch 1
# Flownet2_pth2onnx.py --batch_size 1, onnxsim, fix_onnx.py
"$ferroflow" export onnx -w "$weights" -o "$out/flownet2_bs1_fix.onnx" --size "$size" --batch 1 --inputs normalised \
    --opset 11 --warp gather --correlation slices --int32
# python -m ais_bench --model M --input image1,image2 --output . --output_dirname output_bs1 --loop 2
"$ferroflow" run "$out/flownet2_bs1_fix.onnx" "$out/data_preprocessed_bs1" -o "$out/output_bs1" --loop 2
# Flownet2_postprocess.py --gt_path data_preprocessed_bs1/gt --output_path output_bs1 --batch_size 1
"$ferroflow" score "$out/data_preprocessed_bs1" --outputs "$out/output_bs1"
# The same weights in Ferroflow itself.
"$ferroflow" run "$weights" "$out/data_preprocessed_bs1" -o "$out/output_ferroflow" --loop 2
"$ferroflow" score "$out/data_preprocessed_bs1" --outputs "$out/output_ferroflow"
echo "results in $out"
