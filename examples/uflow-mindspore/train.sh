#!/usr/bin/env bash
# UFlow as its MindSpore port trains it, FlyingChairs and then Sintel (theirs: run_single_train.sh, run_eval.sh), here for a few steps on
# synthetic pairs, whose flow is not looked at but in evaluations.
#
#   FERROFLOW=target/release/ferroflow examples/uflow-mindspore/train.sh [RUNS]
#
# On FlyingChairs: ferroflow train uflow-mindspore-chairs --set data=chairs:PATH@train --set validate=chairs:PATH@val --out RUN
set -euo pipefail
ferroflow=${FERROFLOW:-ferroflow}
runs=${1:-runs/uflow}

small=(--set data=synth:chairs@size=192x192,count=8 --set validate=synth:chairs@size=192x192,seed=2,count=2
    --set crop=192x192 --set validate_size=192x192 --set validate_from=0 --set epoch_steps=1 --set epochs=2 --set checkpoint_every=1
    --set keep=0 --set log_every=1)

"$ferroflow" train uflow-mindspore-chairs "${small[@]}" --out "$runs/chairs"
"$ferroflow" train uflow-mindspore-sintel "${small[@]}" --set "init=$runs/chairs/weights/last.safetensors" --out "$runs/sintel"
"$ferroflow" eval synth:chairs@size=192x192,seed=2,count=2 --checkpoints "$runs/sintel/weights" --protocol uflow --size 192x192
