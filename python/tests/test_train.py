"""Training: events, clean stops, and going on."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferroflow

RECIPE: dict[str, Any] = {
    "model": "lightflow-0.5",
    "data": "synth:chairs@seed=1,size=64x96,count=16",
    "loss": "lightflow-l2",
    "steps": 6,
    "batch": 2,
    "crop": (64, 64),
    "lr": 1e-3,
    "log_every": 2,
    "checkpoint_every": 3,
    "workers": 1,
}


def test_a_run_and_its_events(tmp_path: Path) -> None:
    out = tmp_path / "run"
    events: list[dict[str, Any]] = []
    outcome = ferroflow.train(RECIPE, out, callback=events.append, steps=4)
    assert outcome["step"] == 4 and outcome["finished"]
    names = [event["event"] for event in events]
    assert names[0] == "started" and names.count("step") == 4 and names.count("logged") == 2 and "saved" in names
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3, 4] and all(event["loss"] > 0 for event in steps)
    logged = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [event["loss"] for event in events if event["event"] == "logged"] == [line["loss"] for line in logged if "loss" in line]
    flow = ferroflow.Estimator(out / "weights" / "last.safetensors")(np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8))
    assert flow.shape == (64, 64, 2)


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = ferroflow.train(RECIPE, tmp_path / "whole")
    assert whole["finished"]
    stopped = ferroflow.train(RECIPE, tmp_path / "run", callback=lambda event: event.get("step") != 2)
    assert not stopped["finished"] and stopped["step"] == 2
    assert ferroflow.resume(tmp_path / "run") == whole
    weights = [(tmp_path / run / "weights" / "last.safetensors").read_bytes() for run in ("whole", "run")]
    assert weights[0] == weights[1]


def test_an_exception_saves_and_is_raised(tmp_path: Path) -> None:
    def callback(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 3:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        ferroflow.train(RECIPE, tmp_path / "run", callback=callback)
    assert ferroflow.resume(tmp_path / "run")["finished"]


def test_what_is_refused(tmp_path: Path) -> None:
    wrong: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        ("lightflow-sinth", {}, ferroflow.TrainError, "lightflow-synth"),
        (RECIPE, {"stepz": 3}, ferroflow.TrainError, "steps"),
        (RECIPE, {"crop": (60, 60)}, ferroflow.TrainError, "multiples of"),
        (RECIPE, {"crop": (60, 60, 3)}, ValueError, ""),
        (RECIPE, {"data": {1, 2}}, TypeError, "a recipe has"),
        (RECIPE, {"model": "thrill"}, ferroflow.TrainError, "no network"),
        (RECIPE, {"data": "chairs:/nowhere"}, ferroflow.Error, "nowhere"),
        (3, {}, TypeError, "a name, a path or a dict"),
        (RECIPE, {"device": "abacus"}, ferroflow.DeviceError, "no such device"),
    ]
    for recipe, changes, kind, text in wrong:
        with pytest.raises(kind, match=text or None):
            ferroflow.train(recipe, tmp_path / "run", **changes)
        assert not (tmp_path / "run").exists()
    with pytest.raises(ferroflow.TrainError):
        ferroflow.resume(tmp_path / "run")
    assert "lightflow-synth" in ferroflow.recipes()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_ctrl_c_saves_and_stops(tmp_path: Path) -> None:
    program = f"""
        import ferroflow, sys
        def callback(event):
            if event["event"] == "step":
                print("step", flush=True)
        try:
            ferroflow.train({RECIPE!r} | {{"steps": 100000}}, {str(tmp_path / "run")!r}, callback=callback)
        except KeyboardInterrupt:
            sys.exit(77)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"step\n"
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 77
    assert (tmp_path / "run" / "weights" / "last.safetensors").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_of_a_process_that_trained_refuses_to_train(tmp_path: Path) -> None:
    ferroflow.train(RECIPE, tmp_path / "run", steps=1)
    child = os.fork()
    if child == 0:
        try:
            ferroflow.train(RECIPE, tmp_path / "other", steps=1)
        except ferroflow.TrainError as error:
            os._exit(5 if "spawn" in str(error) else 6)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
