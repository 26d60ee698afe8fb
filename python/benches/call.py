"""What a call from Python costs over the call in Rust: python python/benches/call.py

The program's own benchmark and calls of the same extension take turns. ``zero`` computes nothing, so that its call is the cost alone.
"""

import json
import statistics
import subprocess
import sys
import time

import numpy as np

import ferroflow

SIZE, ROUNDS, RUNS = (448, 1024), 7, 10


def in_python(estimator: ferroflow.Estimator, runs: int) -> float:
    random = np.random.default_rng(0)
    times = []
    for _ in range(runs + 1):
        # Of frames seen before less is computed.
        first, second = (random.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(2))
        start = time.perf_counter()
        estimator(first, second)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def in_rust(method: str) -> float:
    size = "x".join(map(str, SIZE))
    command = [sys.executable, "-m", "ferroflow", "bench", "-m", method, "--size", size, "--runs", str(RUNS), "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return float(report["median_s"])


if __name__ == "__main__":
    print(f"zero: {1e3 * in_python(ferroflow.Estimator('zero'), 200):.3f} ms a call")
    for method in ("dis", "rill"):
        estimator = ferroflow.Estimator(method)
        rounds = [(in_python(estimator, RUNS), in_rust(method)) for _ in range(ROUNDS)]
        python, rust = (statistics.median(times) for times in zip(*rounds, strict=True))
        ratio = statistics.median(a / b for a, b in rounds)
        print(f"{method}: {1e3 * python:.2f} ms from Python, {1e3 * rust:.2f} ms in Rust, ratio {ratio:.3f}")
