#!/usr/bin/env bash
# LightFlow's inference.py. Without arguments it runs on random weights and the frames of the README; with a checkpoint and a folder
# of images called NAME1 and NAME2 it is theirs:
#   offline.sh model_best.pth.tar data
# OUT names the folder of the results, FERROFLOW the program.
set -euo pipefail
ferroflow=${FERROFLOW:-$(cd "$(dirname "$0")/../.." && pwd)/target/release/ferroflow}
out=${OUT:-$(mktemp -d)}

weights=${1:-$out/random.safetensors} frames=${2:-$(cd "$(dirname "$0")/.." && pwd)}
if [ $# -eq 0 ]; then
    "$ferroflow" weights random lightflow -o "$weights"
fi

# inference.py DATA PRETRAINED -o flow -v both --bidirectional --max_flow 20
"$ferroflow" estimate "$frames" -w "$weights" --names lightflow --bidirectional --upsampling none \
    -o "$out/flow" --format npy --viz "$out/flow" --style rgb --norm fixed:20
# inference.py DATA PRETRAINED -o large -v raw --upsampling bilinear
"$ferroflow" estimate "$frames" -w "$weights" --names lightflow --upsampling bilinear -o "$out/large" --format npy
# The checkpoint as their code reads it.
"$ferroflow" weights export "$weights" --to pytorch -o "$out/checkpoint.pth.tar"
ls "$out/flow" "$out/large"
echo "results in $out"
