#!/usr/bin/env bash
# LightFlow's three configurations (theirs: train.py --dataset flying_chairs), here for a few steps on synthetic pairs.
#
#   FERROFLOW=target/release/ferroflow examples/lightflow/train.sh [RUNS]
#
# On FlyingChairs: ferroflow train lightflow-1 --set data=chairs:PATH@split=0.97,train --set validate=chairs:PATH@split=0.97,val --out RUN
set -euo pipefail
ferroflow=${FERROFLOW:-ferroflow}
runs=${1:-runs/lightflow}

# An epoch of one step, in which only sizes and data differ from the recipes; schedules and units are theirs.
pairs=synth:chairs@size=160x160,count=32,split=0.75
small=(--set "data=$pairs,train" --set "validate=$pairs,val" --set batch=4 --set crop=128x128 --set epoch_steps=1
    --set "checkpoint_every=20 epochs" --set log_every=20)

"$ferroflow" train lightflow-1 "${small[@]}" --set epochs=4 --out "$runs/1"
"$ferroflow" train lightflow-2 "${small[@]}" --set epochs=58 --out "$runs/2"
"$ferroflow" train lightflow-3 "${small[@]}" --set epochs=62 --set "init=$runs/2/weights/last.safetensors" --out "$runs/3"
"$ferroflow" train --plot "$runs/3"
"$ferroflow" eval "$pairs,val" -w "$runs/3/weights/last.safetensors" --protocol lightflow
