"""RAFT, RAFT-small and SEA-RAFT on a processor: PyTorch, ONNX Runtime, OpenVINO and this program, in turn, in one run.

    pip install torch torchvision onnxruntime openvino numpy ptlflow
    python3 benches/peers/recurrent.py target/release/ferroflow [--size 448x1024] [--rounds 3] [--models raft raft-small sea-raft-s]

PyTorch runs torchvision's RAFT and ptlflow's copy of SEA-RAFT (without ptlflow that is left out, and said); ONNX Runtime and OpenVINO
run the ONNX file that this program exports, OpenVINO in f32. Weights are random: speed does not depend on them. Every measurement is a
process of its own, whose peak memory is given beside that of the same process before it loads the network; this program's is that of the
whole process. Rounds go engine by engine; quote the ratios.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ITERATIONS = {"raft": 12, "raft-small": 12, "sea-raft-s": 4, "sea-raft-m": 4}
ENGINES = ("pytorch", "onnxruntime", "openvino")


def torch_network(name):
    """The network, and how to call it with two batches of RGB 0..255."""
    import torch

    if name.startswith("raft"):
        from torchvision.models import optical_flow

        net = (optical_flow.raft_small if name == "raft-small" else optical_flow.raft_large)().eval()
        return lambda a, b: net(a * (2 / 255) - 1, b * (2 / 255) - 1, num_flow_updates=ITERATIONS[name])[-1]
    import ptlflow

    net = ptlflow.get_model(name.replace("-", "_")).eval()
    return lambda a, b: net({"images": torch.stack([bgr(a), bgr(b)], 1) / 255})["flows"]


def bgr(x):
    """ptlflow's order of colours."""
    return x.flip(1)


def timed(engine, name, onnx, height, width):
    """Seconds of the best of three runs after one, and MB of memory."""
    import numpy as np

    frames = [np.random.default_rng(i).uniform(0, 255, (1, 3, height, width)).astype(np.float32) for i in (1, 2)]
    if engine == "pytorch":
        import torch

        torch.set_num_threads(2)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with torch.inference_mode():
            net = torch_network(name)
            tensors = [torch.from_numpy(frame) for frame in frames]
            seconds = best(lambda: net(*tensors))
    elif engine == "onnxruntime":
        import onnxruntime

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        feed = dict(zip([i.name for i in session.get_inputs()], frames))
        seconds = best(lambda: session.run(None, feed))
    else:
        import openvino

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2, "PERFORMANCE_HINT": "LATENCY"}
        net = openvino.Core().compile_model(onnx, "CPU", config)
        request = net.create_infer_request()
        seconds = best(lambda: request.infer(frames))
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def best(call):
    call()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--size", default="448x1024")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["raft", "raft-small", "sea-raft-s"])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES))
    parser.add_argument("--one", nargs=2, metavar=("ENGINE", "ONNX"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    if args.one:
        print(json.dumps(timed(args.one[0], args.models[0], args.one[1], height, width)))
        return
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            weights, onnx = f"{folder}/w.safetensors", f"{folder}/net.onnx"
            ours = [args.program, "bench", "-m", name, "-w", weights, "--size", args.size, "--loop", "3", "--json"]
            subprocess.run([args.program, "weights", "random", name, "-o", weights], check=True, capture_output=True)
            export = [args.program, "export", "onnx", "-m", name, "-w", weights, "--size", args.size, "-o", onnx]
            subprocess.run(export, check=True, capture_output=True)
            found = {}
            for _ in range(args.rounds):
                for engine in (*args.engines, "ferroflow"):
                    if engine == "ferroflow":
                        report = subprocess.run(ours, check=True, capture_output=True, text=True).stdout
                        report = json.loads(report.strip().splitlines()[-1])
                        result = report["min_s"], report["peak_memory_bytes"] / 2**20
                    else:
                        again = [sys.executable, __file__, args.program, "--size", args.size, "--models", name, "--one", engine, onnx]
                        done = subprocess.run(again, capture_output=True, text=True)
                        if done.returncode:
                            print(f"{name} in {engine}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                            continue
                        result = json.loads(done.stdout.strip().splitlines()[-1])
                    found.setdefault(engine, []).append(result)
        medians = {engine: [statistics.median(values) for values in zip(*results)] for engine, results in found.items()}
        mine = medians.pop("ferroflow")
        fastest = min(medians, key=lambda engine: medians[engine][0])
        print(f"{name}, {ITERATIONS[name]} iterations, {args.size}: ferroflow {mine[0]:.3f} s, {mine[1]:.0f} MB; " +
              "; ".join(f"{engine} {s:.3f} s ({s / mine[0]:.2f}x), {mb:.0f} MB" for engine, (s, mb) in medians.items()) +
              f". The fastest, {fastest}, takes {medians[fastest][0] / mine[0]:.2f} times as long")


if __name__ == "__main__":
    main()
