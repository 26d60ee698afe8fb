"""What several ranks save: a step of one rank on one core, of two ranks on one core each, and of one process on both cores, in turn.

    cargo build --release -p ferroflow-cli --features mpi
    python3 benches/peers/ranks.py target/release/ferroflow [--rounds 3] [--steps 12] [--ranks 2] [--json FILE]

Needs `mpirun` (Open MPI) and `taskset`. The first steps of a run, which also prepare the network, are left out. Prints for each network
the medians over the rounds, and what the log says of each rank: seconds of computing, of small exchanges and of sums in a step.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

NETWORKS = {
    # name: (model, loss, batch, crop), as the recipes have them (but for a quarter of LightFlow's batch of 128), and smaller
    "lightflow": ("lightflow", "lightflow-l1", 32, "320x448"),
    "pwcnet": ("pwcnet", "multiscale-epe", 8, "320x448"),
    "lightflow-small": ("lightflow", "lightflow-l1", 8, "256x448"),
    "pwcnet-small": ("pwcnet", "multiscale-epe", 4, "256x320"),
}
# Steps between lines of the log; the first line is not counted.
EVERY = 3


def run(program, data, root, network, ranks, threads, cores, steps):
    """Seconds a step, and the constants of each rank."""
    model, loss, batch, crop = NETWORKS[network]
    keys = {
        "model": f"'{model}'", "data": f"'chairs:{data}'", "loss": f"'{loss}'", "batch": batch, "crop": f"'{crop}'", "lr": 1e-4,
        "steps": steps, "log_every": EVERY, "checkpoint_every": 10 * steps, "workers": 1,
    }
    recipe = root / "recipe.toml"
    recipe.write_text("".join(f"{key} = {value}\n" for key, value in keys.items()))
    out = root / f"{network}-{ranks}-{threads}-{len(list(root.iterdir()))}"
    train = [program, "train", str(recipe), "--out", str(out), "--quiet"]
    environment = {"RAYON_NUM_THREADS": str(threads), "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(root)}
    if ranks > 1:
        start = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "core", "-x", "RAYON_NUM_THREADS", "-n", str(ranks)]
    else:
        start = ["taskset", "-c", cores]
    subprocess.run(start + train, check=True, env=environment, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    times = [line["time"]["seconds"] for line in lines if "loss" in line]
    of_ranks = [line["time"]["ranks"] for line in lines if "ranks" in line.get("time", {})][1:]
    ranks_now = [
        {key: statistics.median(of[rank][key] for of in of_ranks) / EVERY for key in of_ranks[0][rank]} for rank in range(ranks)
    ] if of_ranks else []
    return statistics.median((b - a) / EVERY for a, b in zip(times, times[1:])), ranks_now


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--json")
    args = parser.parse_args()
    program = str(pathlib.Path(args.program).resolve())
    ways = {
        "one rank, one core": (1, 1, "0"),
        f"{args.ranks} ranks, one core each": (args.ranks, 1, None),
        f"one process, {args.ranks} cores": (1, args.ranks, f"0-{args.ranks - 1}"),
    }
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        data = root / "data"
        subprocess.run([program, "synth", "chairs", "--count", "16", "--size", "320x512", "-o", str(data), "--quiet"], check=True)
        for network in args.networks:
            found = {way: [] for way in ways}
            for _ in range(args.rounds):
                for way, (ranks, threads, cores) in ways.items():
                    found[way].append(run(program, data, root, network, ranks, threads, cores, args.steps))
            alone = statistics.median(seconds for seconds, _ in found["one rank, one core"])
            report[network] = {}
            for way, runs in found.items():
                seconds = statistics.median(seconds for seconds, _ in runs)
                each = " ".join(f"{seconds:.3f}" for seconds, _ in runs)
                print(f"{network}: {way}: {seconds:.3f} s a step ({each}), {alone / seconds:.2f} times one rank")
                for rank, of in enumerate(runs[-1][1]):
                    constants = {key: round(value, 4) for key, value in of.items()}
                    print(f"    rank {rank}: {json.dumps(constants)}")
                report[network][way] = {"seconds": seconds, "runs": runs}
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
