#!/usr/bin/env bash
# Data conversion, evaluation and export of the MindSpore UFlow. Without arguments it runs on random weights and six synthetic pairs;
# with its checkpoints and FlyingChairs it is theirs:
#   offline.sh checkpoint_dir chairs:FlyingChairs_release/data chairs_train_val.txt 384x512
# OUT names the folder of the results, FERROFLOW the program.
set -euo pipefail
ferroflow=${FERROFLOW:-$(cd "$(dirname "$0")/../.." && pwd)/target/release/ferroflow}
out=${OUT:-$(mktemp -d)}

checkpoints=${1:-$out/checkpoints} data=${2:-chairs:$out/data} split=${3:-$out/split.txt} size=${4:-192x256}
if [ $# -eq 0 ]; then
    "$ferroflow" weights random uflow-mindspore -o "$out/random.safetensors"
    mkdir -p "$checkpoints"
    "$ferroflow" weights export "$out/random.safetensors" --to mindspore -o "$checkpoints/uflow_800_1000.ckpt"
    "$ferroflow" synth sdhom --count 6 --size 96x128 -o "$out/data"
    printf '%s\n' 1 1 2 1 1 2 > "$split"
fi

# python -m src.utils.convert_flying_chairs_to_mindrecords --data_dir D --output_dir O --train_split_file F --shard 0 --num_shards 2
for shard in 0 1; do
    "$ferroflow" data pack "$data" -o "$out/records" --format tfrecord --split-file "$split" --shard "$shard" --num-shards 2
done
# bash scripts/run_eval.sh EVAL_ON HEIGHT WIDTH CKPT_DIR DEVICE_ID
"$ferroflow" eval "tfrecord:$out/records/test" --checkpoints "$checkpoints" --from-epoch 800 --protocol uflow --size "$size"
# python export.py --ckpt_file CKPT --height H --width W --file_name1 uflow_feature --file_name2 uflow_flow --file_format ONNX
for checkpoint in "$checkpoints"/*.ckpt; do
    "$ferroflow" export onnx -w "$checkpoint" -o "$out/uflow.onnx" --size "$size" --batch 1 --split
done
echo "results in $out"
