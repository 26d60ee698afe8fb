"""Trains a small network on pairs that are made on the fly, and estimates with it: python examples/python/train.py [STEPS]

Ctrl-C saves and stops; ferroflow.resume("run") then goes on, to the same weights as if it had not stopped.
"""

import sys
import tempfile
from pathlib import Path

import ferroflow

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 4
out = Path(tempfile.mkdtemp()) / "run"


def report(event: dict) -> None:
    if event["event"] == "logged":
        print(f"step {event['step']}: loss {event['loss']:.3f}, mean error {event['epe']:.2f} px")


# Every key of a recipe can be given here; ferroflow.recipes() lists those that come along.
outcome = ferroflow.train(
    {"model": "lightflow-0.5", "loss": "lightflow-l2", "lr": 1e-3, "clip": 10.0},
    out,
    callback=report,
    data="synth:chairs@seed=1,size=96x128,count=64",
    crop=(64, 64),
    batch=4,
    steps=steps,
    log_every=2,
)
print(f"{outcome['step']} steps; {ferroflow.Estimator(out / 'weights' / 'last.safetensors')!r}")
