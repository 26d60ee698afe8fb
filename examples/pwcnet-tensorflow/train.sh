#!/usr/bin/env bash
# PWC-Net's fine-tuning on Sintel in its two steps (theirs: train_v1.sh, train_v2.sh), here for a few steps on synthetic pairs, with the small
# network from random weights. Steps are for batches of 4, so a batch of 2 takes twice as many.
#
#   FERROFLOW=target/release/ferroflow examples/pwcnet-tensorflow/train.sh [RUNS]
#
# On Sintel: ferroflow weights import pretrained/pwcnet.ckpt-176000 -o pwcnet-lg-6-2.safetensors
#            ferroflow train pwcnet-sintel-v1 --set data=sintel-clean:PATH@train_noval --set validate=sintel-clean:PATH@val_notrain --out RUN
set -euo pipefail
ferroflow=${FERROFLOW:-ferroflow}
runs=${1:-runs/pwcnet}

# tfoptflow's own split: train_with_val reads what is left to train on, val with the same share and seed what is held out.
pairs=synth:things@size=96x160,count=40
small=(--set model=pwcnet-sm --set "data=$pairs,holdout=0.03,seed=1969,train" --set "validate=$pairs,holdout=0.03,seed=1969,val"
    --set batch=2 --set crop=64x128 --set steps=2 --set checkpoint_every=4 --set log_every=1)

"$ferroflow" train pwcnet-sintel-v1 "${small[@]}" --set init= --out "$runs/v1"
"$ferroflow" train pwcnet-sintel-v2 "${small[@]}" --set "init=$runs/v1/weights/last.safetensors" --out "$runs/v2"
"$ferroflow" eval "$pairs,val_notrain" -w "$runs/v2/weights/last.safetensors" --protocol tfoptflow --save "$runs/flows"
