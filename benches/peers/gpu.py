"""Times networks on a GPU: Ferroflow's program beside PyTorch eager, in one run, so that both see the same machine.

    python benches/peers/gpu.py --ferroflow target/release/ferroflow --device vulkan --minutes 9 > gpu.jsonl
    python benches/peers/gpu.py --ferroflow cuda/target/release/ferroflow --device cuda --minutes 9 > gpu.jsonl

It needs PyTorch with CUDA, and nothing else: FlowNetS, FlowNetC and PWC-Net are defined below, with the layers and the parameter counts of
Ferroflow's `flownet2-s`, `flownet2-c` and `pwcnet`, and random weights. Without PyTorch, or without CUDA in it, only Ferroflow is timed.

An estimate is from frames in the host's memory to flow there. A step of training is the forward pass, the mean end-point error at full size,
the gradient and Adam. `f32` multiplies in TF32 on tensor cores, as CubeCL does and as PyTorch does with `allow_tf32`; PyTorch is timed in strict
f32 too. `f16` and `bf16` are PyTorch's autocast. Each line of the output is one measurement: medians in seconds, and the memory of the device.
A table goes to standard error at the end. Rows are ordered so that the most telling come first: whatever `--minutes` cuts off is named.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

try:
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
except (ImportError, OSError, ValueError):  # not there, or without its libraries
    torch = None

SIZES = [(448, 1024), (1080, 1920)]
CROPS = {"pwcnet": (320, 448), "flownet2-s": (320, 448), "flownet2-c": (320, 448)}


def rows(networks):
    """(network, training, precision, size, batch), the most telling first."""
    for precision in ("f32", "bf16", "f16"):
        for batch in (1, 8):
            for size in SIZES:
                for network in networks:
                    yield network, False, precision, size, batch
        for network in networks:
            yield network, True, precision, CROPS[network], 8


def ours(args, network, training, precision, size, batch):
    """What `ferroflow bench --json` measures, or the last line of why not."""
    command = [args.ferroflow, "bench", "-m", network, "--device", args.device, "--precision", precision]
    command += ["--size", "%dx%d" % size, "--batch", str(batch), "--loop", str(args.loop), "--warmup", str(args.warmup), "--json"]
    try:
        done = subprocess.run(command + ["--train"] * training, capture_output=True, text=True, timeout=args.timeout)
    except subprocess.TimeoutExpired:
        return {"error": "longer than %d s" % args.timeout}
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    report = json.loads(done.stdout.strip().splitlines()[-1])
    return {"seconds": report["median_s"], "memory": report.get("device_memory_bytes"), "first": report.get("first_s")}


def theirs(args, network, training, precision, size, batch, strict=False):
    """The same in PyTorch."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = not strict
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(1)
    net = NETWORKS[network]().cuda()
    kind = {"bf16": torch.bfloat16, "f16": torch.float16}.get(precision)
    frames = [torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8) for _ in range(2)]
    truth = (10 * torch.rand(batch, 2, *size) - 5).cuda()
    adam = torch.optim.Adam(net.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler("cuda", enabled=kind == torch.float16 and training)

    def forward():
        with torch.autocast("cuda", kind or torch.float16, enabled=kind is not None):
            first, second = (frame.cuda().float() for frame in frames)
            return net(first, second).float()

    def run():
        if not training:
            with torch.no_grad():
                forward().cpu()
            return
        loss = (forward() - truth).norm(dim=1).mean()
        adam.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(adam)
        scaler.update()
        loss.item()

    try:
        seconds = []
        for i in range(args.warmup + args.loop):
            torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            torch.cuda.synchronize()
            if i >= args.warmup:
                seconds.append(time.perf_counter() - start)
    except torch.cuda.OutOfMemoryError as error:
        return {"error": str(error).splitlines()[0]}
    return {"seconds": statistics.median(seconds), "memory": torch.cuda.max_memory_reserved()}


def define():
    """The networks, where PyTorch is there to define them."""

    def conv(i, o, k=3, stride=1, dilation=1):
        return nn.Sequential(nn.Conv2d(i, o, k, stride, (k - 1) // 2 * dilation, dilation), nn.LeakyReLU(0.1, inplace=True))

    def deconv(i, o):
        return nn.Sequential(nn.ConvTranspose2d(i, o, 4, 2, 1), nn.LeakyReLU(0.1, inplace=True))

    def correlation(a, b, reach, stride):
        _, _, height, width = a.shape
        b = F.pad(b, [reach] * 4)
        steps = range(0, 2 * reach + 1, stride)
        return torch.stack([(a * b[:, :, y : y + height, x : x + width]).mean(1) for y in steps for x in steps], 1)

    def warp(image, flow):
        _, _, height, width = flow.shape
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        at = torch.stack([x, y], -1).to(flow) + flow.permute(0, 2, 3, 1)
        at = at * 2 / flow.new_tensor([width - 1, height - 1]) - 1
        mask = F.grid_sample(torch.ones_like(image[:, :1]), at, align_corners=True) >= 0.9999
        return F.grid_sample(image, at, align_corners=True) * mask

    def fit(x, multiple):
        height, width = x.shape[-2:]
        return F.pad(x / 255, (0, -width % multiple, 0, -height % multiple))

    class Decoder(nn.Module):
        """The expanding part of FlowNetS and FlowNetC, from a sixty-fourth to a quarter of the size."""

        def __init__(self, skips, bias):
            super().__init__()
            outs, i = [512, 256, 128, 64], 1024
            self.deconv, self.flow, self.up = nn.ModuleList(), nn.ModuleList([nn.Conv2d(1024, 2, 3, 1, 1)]), nn.ModuleList()
            for skip, out in zip(skips, outs):
                self.deconv.append(deconv(i, out))
                self.up.append(nn.ConvTranspose2d(2, 2, 4, 2, 1, bias=bias))
                i = skip + out + 2
                self.flow.append(nn.Conv2d(i, 2, 3, 1, 1))

        def forward(self, x, skips):
            flow = self.flow[0](x)
            for deconv, up, predict, skip in zip(self.deconv, self.up, self.flow[1:], skips):
                x = torch.cat([skip, deconv(x), up(flow)], 1)
                flow = predict(x)
            return flow

    class FlowNetS(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.c2, self.c3 = conv(6, 64, 7, 2), conv(64, 128, 5, 2), nn.Sequential(conv(128, 256, 5, 2), conv(256, 256))
            self.c4, self.c5 = nn.Sequential(conv(256, 512, 3, 2), conv(512, 512)), nn.Sequential(conv(512, 512, 3, 2), conv(512, 512))
            self.c6 = nn.Sequential(conv(512, 1024, 3, 2), conv(1024, 1024))
            self.decoder = Decoder([512, 512, 256, 128], bias=False)

        def forward(self, first, second):
            height, width = first.shape[-2:]
            c2 = self.c2(self.c1(torch.cat([fit(first, 64), fit(second, 64)], 1)))
            c3 = self.c3(c2)
            c4 = self.c4(c3)
            c5 = self.c5(c4)
            flow = self.decoder(self.c6(c5), [c5, c4, c3, c2])
            return 20 * F.interpolate(flow, scale_factor=4, mode="bilinear")[..., :height, :width]

    class FlowNetC(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.c2, self.c3 = conv(3, 64, 7, 2), conv(64, 128, 5, 2), conv(128, 256, 5, 2)
            self.redirect, self.c31 = conv(256, 32, 1), conv(473, 256)
            self.c4, self.c5 = nn.Sequential(conv(256, 512, 3, 2), conv(512, 512)), nn.Sequential(conv(512, 512, 3, 2), conv(512, 512))
            self.c6 = nn.Sequential(conv(512, 1024, 3, 2), conv(1024, 1024))
            self.decoder = Decoder([512, 512, 256, 128], bias=True)

        def forward(self, first, second):
            height, width = first.shape[-2:]
            c2 = self.c2(self.c1(fit(first, 64)))
            a, b = self.c3(c2), self.c3(self.c2(self.c1(fit(second, 64))))
            volume = F.leaky_relu(correlation(a, b, 20, 2), 0.1)
            c3 = self.c31(torch.cat([self.redirect(a), volume], 1))
            c4 = self.c4(c3)
            c5 = self.c5(c4)
            flow = self.decoder(self.c6(c5), [c5, c4, c3, c2])
            return 20 * F.interpolate(flow, scale_factor=4, mode="bilinear")[..., :height, :width]

    class PwcNet(nn.Module):
        CHANNELS = [16, 32, 64, 96, 128, 196]

        def __init__(self):
            super().__init__()
            ins = [3] + self.CHANNELS[:-1]
            self.levels = nn.ModuleList(nn.Sequential(conv(i, o, 3, 2), conv(o, o), conv(o, o)) for i, o in zip(ins, self.CHANNELS))
            self.dense, self.flow, self.up, self.up_features = nn.ModuleList(), nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
            for channels in [0, 128, 96, 64, 32]:
                i, layers = 81 + (channels + 4 if channels else 0), nn.ModuleList()
                for out in [128, 128, 96, 64, 32]:
                    layers.append(conv(i, out))
                    i += out
                self.dense.append(layers)
                self.flow.append(nn.Conv2d(i, 2, 3, 1, 1))
                # The last one is part of the checkpoint, though nothing reads it.
                self.up.append(nn.ConvTranspose2d(2, 2, 4, 2, 1))
                if channels != 32:
                    self.up_features.append(nn.ConvTranspose2d(i, 2, 4, 2, 1))
            plan = [(i, 128, 1), (128, 128, 2), (128, 128, 4), (128, 96, 8), (96, 64, 16), (64, 32, 1)]
            self.context = nn.Sequential(*(conv(i, o, 3, 1, d) for i, o, d in plan), nn.Conv2d(32, 2, 3, 1, 1))

        def forward(self, first, second):
            height, width = first.shape[-2:]
            pyramids = []
            for x in (fit(first, 64), fit(second, 64)):
                pyramid = []
                for level in self.levels:
                    x = level(x)
                    pyramid.append(x)
                pyramids.append(pyramid)
            flow = None
            for i, level in enumerate([5, 4, 3, 2, 1]):
                a, b = pyramids[0][level], pyramids[1][level]
                if flow is None:
                    x = F.leaky_relu(correlation(a, b, 4, 1), 0.1)
                else:
                    flow, features = self.up[i - 1](flow), self.up_features[i - 1](x)
                    volume = correlation(a, warp(b, flow.float() * 20 / 2 ** (level + 1)), 4, 1)
                    x = torch.cat([F.leaky_relu(volume, 0.1), a, flow, features], 1)
                for layer in self.dense[i]:
                    x = torch.cat([layer(x), x], 1)
                flow = self.flow[i](x)
            flow = flow + self.context(x)
            return 20 * F.interpolate(flow, scale_factor=4, mode="bilinear")[..., :height, :width]

    return {"pwcnet": PwcNet, "flownet2-s": FlowNetS, "flownet2-c": FlowNetC}


NETWORKS = define() if torch else {}


def check(args, networks):
    """Both sides have as many parameters."""
    for name in networks:
        report = json.loads(subprocess.run([args.ferroflow, "models", name, "--json"], capture_output=True, text=True, check=True).stdout)
        found, expected = sum(p.numel() for p in NETWORKS[name]().parameters()), report["parameters"]
        if found != expected:
            sys.exit("%s has %d parameters in PyTorch, %d in Ferroflow" % (name, found, expected))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ferroflow", default="ferroflow")
    parser.add_argument("--device", default="cuda", help="what ferroflow computes on")
    parser.add_argument("--networks", default="pwcnet,flownet2-s,flownet2-c")
    parser.add_argument("--loop", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--timeout", type=int, default=120, help="seconds for one of ferroflow's rows")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--check", action="store_true", help="only compare the parameter counts")
    args = parser.parse_args()
    networks = args.networks.split(",")
    if torch:
        check(args, networks)
    if args.check:
        return
    gpu = torch is not None and torch.cuda.is_available()
    if not gpu:
        print("PyTorch finds no CUDA: timing Ferroflow alone", file=sys.stderr)
    end, table = time.monotonic() + 60 * args.minutes, []
    for row in rows(networks):
        network, training, precision, size, batch = row
        key = dict(network=network, training=training, precision=precision, size="%dx%d" % size, batch=batch)
        if time.monotonic() > end:
            print("cut off: %s" % json.dumps(key), file=sys.stderr)
            continue
        found = {"ferroflow": ours(args, *row)}
        if gpu:
            found["pytorch"] = theirs(args, *row)
            if precision == "f32":
                found["pytorch strict f32"] = theirs(args, *row, strict=True)
        for engine, result in found.items():
            print(json.dumps(dict(key, engine=engine, **result)), flush=True)
        table.append((key, found))
    for key, found in table:
        what = "step" if key["training"] else "estimate"
        cells = ["%s %.1f ms" % (engine, 1e3 * r["seconds"]) if "seconds" in r else "%s: %s" % (engine, r["error"]) for engine, r in found.items()]
        print(key["network"], what, key["precision"], key["size"], "batch", key["batch"], "|", " | ".join(cells), file=sys.stderr)


if __name__ == "__main__":
    main()
