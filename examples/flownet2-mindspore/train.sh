#!/usr/bin/env bash
# FlowNet2 as MindSpore's model zoo trains and evaluates it (theirs: run_train_gpu.sh, eval.py), here for a few steps on synthetic pairs,
# with FlowNet2-S from random weights instead of all of FlowNet2 from converted ones.
#
#   FERROFLOW=target/release/ferroflow examples/flownet2-mindspore/train.sh [RUNS]
#
# On FlyingChairs: ferroflow weights import FlowNet2_checkpoint.pth.tar -o flownet2.safetensors
#                  ferroflow train flownet2-mindspore --set data=chairs:PATH --set validate=sintel-clean:PATH --out RUN
set -euo pipefail
ferroflow=${FERROFLOW:-ferroflow}
runs=${1:-runs/flownet2}

"$ferroflow" train flownet2-mindspore --out "$runs/s" --set model=flownet2-s --set init= \
    --set data=synth:chairs@size=96x128,count=16 --set validate=synth:chairs@size=128x128,seed=2,count=4 \
    --set batch=2 --set crop=64x64 --set validate_crop=64x64 --set epoch_steps=2 --set epochs=2 \
    --set "validate_every=1 epoch" --set "checkpoint_every=2 epochs" --set keep=1 --set log_every=1
"$ferroflow" eval synth:chairs@size=128x128,seed=2,count=4 -w "$runs/s/weights/best.safetensors" --protocol flownet2 --crop 64x64
