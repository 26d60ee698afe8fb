"""Times networks on a GPU: Ferroflow's program beside PyTorch eager, in one run, so that both see the same machine.

    python benches/peers/gpu.py --ferroflow target/release/ferroflow --device vulkan --minutes 9 > gpu.jsonl
    python benches/peers/gpu.py --ferroflow cuda/target/release/ferroflow --device cuda --minutes 9 > gpu.jsonl

It needs PyTorch with CUDA, and nothing else: PWC-Net, FlowNet2 with its members S and C, UFlow and LightFlow are defined below, with the layers
and the parameter counts of Ferroflow's, and random weights. Ferroflow's own network, `rill`, has no peer and is timed alone. Without PyTorch, or
without CUDA in it, so are the others. `--check` only compares the parameter counts and runs each peer once on the processor.

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

# (training, size, batch), the most telling first
WORK = [
    (False, (448, 1024), 1),
    (True, (320, 448), 8),
    (False, (448, 1024), 8),
    (False, (1080, 1920), 1),
    (False, (1080, 1920), 8),
]


def rows(networks):
    """(network, training, precision, size, batch), the most telling first."""
    for precision in ("f32", "bf16", "f16"):
        for training, size, batch in WORK:
            for network in networks:
                yield network, training, precision, size, batch


def ours(args, left, network, training, precision, size, batch):
    """What `ferroflow bench --json` measures, or the last line of why not."""
    command = [args.ferroflow, "bench", "-m", network, "--device", args.device, "--precision", precision]
    command += ["--size", "%dx%d" % size, "--batch", str(batch), "--loop", str(args.loop), "--warmup", str(args.warmup), "--json"]
    timeout = min(args.timeout, left)
    try:
        done = subprocess.run(command + ["--train"] * training, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": "longer than %d s" % timeout}
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
    net = NETWORKS[network]().cuda().train(training)
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

    def warp(image, flow, outside="zeros"):
        _, _, height, width = flow.shape
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        at = torch.stack([x, y], -1).to(flow) + flow.permute(0, 2, 3, 1)
        at = at * 2 / flow.new_tensor([width - 1, height - 1]) - 1
        return F.grid_sample(image, at, padding_mode=outside, align_corners=True), at

    def masked_warp(image, flow):
        warped, at = warp(image, flow)
        return warped * (F.grid_sample(torch.ones_like(image[:, :1]), at, align_corners=True) >= 0.9999)

    def fit(x, multiple):
        height, width = x.shape[-2:]
        return F.pad(x / 255, (0, -width % multiple, 0, -height % multiple))

    def stretch(x, multiple):
        height, width = (side + -side % multiple for side in x.shape[-2:])
        return F.interpolate(x, (height, width), mode="bilinear") if x.shape[-2:] != (height, width) else x

    def enlarged(x, mode="bilinear"):
        return F.interpolate(x, scale_factor=4, mode=mode)

    class Decoder(nn.Module):
        """The expanding part of FlowNetS, C and SD, from a sixty-fourth to a quarter of the size; SD's has a convolution before each flow."""

        def __init__(self, skips, bias, between=False):
            super().__init__()
            outs, i = [512, 256, 128, 64], 1024
            self.deconv, self.flow, self.up = nn.ModuleList(), nn.ModuleList([nn.Conv2d(1024, 2, 3, 1, 1)]), nn.ModuleList()
            self.between = nn.ModuleList()
            for skip, out in zip(skips, outs):
                self.deconv.append(deconv(i, out))
                self.up.append(nn.ConvTranspose2d(2, 2, 4, 2, 1, bias=bias))
                i = skip + out + 2
                self.between.append(nn.Conv2d(i, out, 3, 1, 1) if between else nn.Identity())
                self.flow.append(nn.Conv2d(out if between else i, 2, 3, 1, 1))

        def forward(self, x, skips):
            flow = self.flow[0](x)
            for deconv, up, between, predict, skip in zip(self.deconv, self.up, self.between, self.flow[1:], skips):
                x = torch.cat([skip, deconv(x), up(flow)], 1)
                flow = predict(between(x))
            return flow

    def ends():
        """The last layers of FlowNetS and FlowNetC before the decoder, from an eighth to a sixty-fourth of the size."""
        pairs = [(256, 512), (512, 512), (512, 1024)]
        return nn.ModuleList(nn.Sequential(conv(i, o, 3, 2), conv(o, o)) for i, o in pairs)

    class FlowNetS(nn.Module):
        def __init__(self, channels=6):
            super().__init__()
            self.c1, self.c2, self.c3 = conv(channels, 64, 7, 2), conv(64, 128, 5, 2), nn.Sequential(conv(128, 256, 5, 2), conv(256, 256))
            self.ends, self.decoder = ends(), Decoder([512, 512, 256, 128], bias=False)

        def quarter(self, x):
            """A flow of a quarter of the size, in units of 20 pixels."""
            c2 = self.c2(self.c1(x))
            c3 = self.c3(c2)
            c4 = self.ends[0](c3)
            c5 = self.ends[1](c4)
            return self.decoder(self.ends[2](c5), [c5, c4, c3, c2])

        def forward(self, first, second):
            height, width = first.shape[-2:]
            return 20 * enlarged(self.quarter(torch.cat([fit(first, 64), fit(second, 64)], 1)))[..., :height, :width]

    class FlowNetC(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.c2, self.c3 = conv(3, 64, 7, 2), conv(64, 128, 5, 2), conv(128, 256, 5, 2)
            self.redirect, self.c31 = conv(256, 32, 1), conv(473, 256)
            self.ends, self.decoder = ends(), Decoder([512, 512, 256, 128], bias=True)

        def quarter(self, first, second):
            c2 = self.c2(self.c1(first))
            a, b = self.c3(c2), self.c3(self.c2(self.c1(second)))
            volume = F.leaky_relu(correlation(a, b, 20, 2), 0.1)
            c3 = self.c31(torch.cat([self.redirect(a), volume], 1))
            c4 = self.ends[0](c3)
            c5 = self.ends[1](c4)
            return self.decoder(self.ends[2](c5), [c5, c4, c3, c2])

        def forward(self, first, second):
            height, width = first.shape[-2:]
            return 20 * enlarged(self.quarter(fit(first, 64), fit(second, 64)))[..., :height, :width]

    class FlowNetSD(nn.Module):
        def __init__(self):
            super().__init__()
            self.c0, self.c1, self.c2 = conv(6, 64), nn.Sequential(conv(64, 64, 3, 2), conv(64, 128)), nn.Sequential(conv(128, 128, 3, 2), conv(128, 128))
            self.c3, self.ends = nn.Sequential(conv(128, 256, 3, 2), conv(256, 256)), ends()
            self.decoder = Decoder([512, 512, 256, 128], bias=True, between=True)

        def quarter(self, x):
            c2 = self.c2(self.c1(self.c0(x)))
            c3 = self.c3(c2)
            c4 = self.ends[0](c3)
            c5 = self.ends[1](c4)
            return self.decoder(self.ends[2](c5), [c5, c4, c3, c2])

    class Fusion(nn.Module):
        def __init__(self):
            super().__init__()
            self.c0, self.c1, self.c2 = conv(11, 64), nn.Sequential(conv(64, 64, 3, 2), conv(64, 128)), nn.Sequential(conv(128, 128, 3, 2), conv(128, 128))
            self.deconv = nn.ModuleList([deconv(128, 32), deconv(162, 16)])
            self.between = nn.ModuleList([nn.Conv2d(162, 32, 3, 1, 1), nn.Conv2d(82, 16, 3, 1, 1)])
            self.flow = nn.ModuleList(nn.Conv2d(i, 2, 3, 1, 1) for i in (128, 32, 16))
            self.up = nn.ModuleList(nn.ConvTranspose2d(2, 2, 4, 2, 1) for _ in range(2))

        def forward(self, x):
            c0 = self.c0(x)
            c1 = self.c1(c0)
            x = self.c2(c1)
            flow = self.flow[0](x)
            for i, skip in enumerate((c1, c0)):
                x = torch.cat([skip, self.deconv[i](x), self.up[i](flow)], 1)
                flow = self.flow[i + 1](self.between[i](x))
            return flow

    class FlowNet2(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.s1, self.s2, self.sd, self.fusion = FlowNetC(), FlowNetS(12), FlowNetS(12), FlowNetSD(), Fusion()

        def forward(self, first, second):
            height, width = first.shape[-2:]
            first, second = stretch(first, 64), stretch(second, 64)
            mean = torch.stack([first, second], 2).mean((2, 3, 4))[:, :, None, None]
            a, b = (first - mean) / 255, (second - mean) / 255

            def explained(flow):
                warped, _ = warp(b, flow.float(), "border")
                return warped, (a - warped).norm(dim=1, keepdim=True)

            flow = self.c.quarter(a, b)
            for net in (self.s1, self.s2):
                flow = 20 * enlarged(flow)
                warped, error = explained(flow)
                flow = net.quarter(torch.cat([a, b, warped, flow / 20, error], 1))
            flows = [enlarged(self.sd.quarter(torch.cat([a, b], 1)) / 20, "nearest"), enlarged(20 * flow, "nearest")]
            norms, errors = [flow.norm(dim=1, keepdim=True) for flow in flows], [explained(flow)[1] for flow in flows]
            return F.interpolate(self.fusion(torch.cat([a, *flows, *norms, *errors], 1)), (height, width), mode="bilinear")

    class UFlow(nn.Module):
        def __init__(self):
            super().__init__()
            self.levels = nn.ModuleList(nn.Sequential(conv(3 if level == 0 else 32, 32, 3, 2), conv(32, 32), conv(32, 32)) for level in range(5))
            self.dense, self.flow, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
            for level in range(4):
                i, layers = 81 + 32 + (34 if level else 0), nn.ModuleList()
                for out in [128, 128, 96, 64, 32]:
                    layers.append(conv(i, out))
                    i += out
                self.dense.append(layers)
                self.flow.append(nn.Conv2d(32, 2, 3, 1, 1))
                # The last one is part of the checkpoint, though nothing reads it.
                self.up.append(nn.ConvTranspose2d(32, 32, 4, 2, 1))
            plan = [(34, 128, 1), (128, 128, 2), (128, 128, 4), (128, 96, 8), (96, 64, 16), (64, 32, 1)]
            self.refinement = nn.Sequential(*(conv(i, o, 3, 1, d) for i, o, d in plan), nn.Conv2d(32, 2, 3, 1, 1))

        def forward(self, first, second):
            height, width = first.shape[-2:]
            pyramids = []
            for x in (stretch(first, 32), stretch(second, 32)):
                x, pyramid = x * 2 / 255 - 1, []
                for level in self.levels:
                    x = level(x)
                    pyramid.append(x)
                pyramids.append(pyramid)
            flow = None
            for i, level in enumerate([4, 3, 2, 1]):
                a, b = pyramids[0][level], pyramids[1][level]
                if flow is not None:
                    flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear")
                    b, _ = warp(b, flow.float())
                # Both are normalised by what they have in common.
                variance, mean = (sum(m) / 2 for m in zip(*(torch.var_mean(x.float(), (1, 2, 3), correction=0, keepdim=True) for x in (a, b))))
                cost = F.leaky_relu(correlation(*((x - mean) / (variance + 1e-16).sqrt() for x in (a, b)), 4, 1), 0.1)
                x = torch.cat([cost, a] if flow is None else [self.up[i - 1](context), flow, cost, a], 1)
                for layer in self.dense[i]:
                    context = layer(x)
                    x = torch.cat([x, context], 1)
                flow = self.flow[i](context) + (0 if flow is None else flow)
            flow = flow + self.refinement(torch.cat([context, flow], 1))
            return 4 * F.interpolate(flow.flip(1), (height, width), mode="bilinear")

    class LightFlow(nn.Module):
        def __init__(self):
            super().__init__()
            plan = [(6, 32, 2), (32, 64, 2), (64, 128, 2), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1), (512, 1024, 2), (1024, 1024, 1)]
            self.encoder = nn.ModuleList(self.block(*layer) for layer in plan)
            plan = [(1024, 256, 1), (256 + 512, 128, 1), (128 + 256, 64, 1), (64 + 128, 32, 1), (32 + 64, 16, 1)]
            self.decoder = nn.ModuleList(self.block(*layer) for layer in plan)
            self.flow = nn.ModuleList(self.block(i, 2, 1) for i in (256, 128, 64, 32, 16))

        @staticmethod
        def block(i, o, stride):
            depthwise = [nn.Conv2d(i, i, 3, stride, 1, groups=i, bias=False), nn.BatchNorm2d(i), nn.LeakyReLU(0.1, inplace=True)]
            return nn.Sequential(*depthwise, nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.1, inplace=True))

        def forward(self, first, second):
            height, width = first.shape[-2:]
            mean = first.new_tensor([0.411, 0.432, 0.45]).view(1, 3, 1, 1)
            x, features = torch.cat([stretch(frame, 64) / 255 - mean for frame in (first, second)], 1), []
            for layer in self.encoder:
                x = layer(x)
                features.append(x)
            # At a thirty-second, a sixteenth, an eighth and a quarter of the size.
            skips = [features[i] for i in (6, 4, 2, 1)]
            flow = 0
            for i, (layer, predict) in enumerate(zip(self.decoder, self.flow)):
                if i:
                    x = torch.cat([F.interpolate(x, scale_factor=2), skips[i - 1]], 1)
                x = layer(x)
                flow = flow + F.interpolate(predict(x), scale_factor=2 ** (4 - i))
            return F.interpolate(4 * flow, (height, width), mode="bilinear")

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
                    volume = correlation(a, masked_warp(b, flow.float() * 20 / 2 ** (level + 1)), 4, 1)
                    x = torch.cat([F.leaky_relu(volume, 0.1), a, flow, features], 1)
                for layer in self.dense[i]:
                    x = torch.cat([layer(x), x], 1)
                flow = self.flow[i](x)
            flow = flow + self.context(x)
            return 20 * enlarged(flow)[..., :height, :width]

    peers = {"pwcnet": PwcNet, "flownet2": FlowNet2, "flownet2-s": FlowNetS, "flownet2-c": FlowNetC}
    return {**peers, "uflow": UFlow, "lightflow": LightFlow}


NETWORKS = define() if torch else {}


def check(args, networks):
    """Both sides have as many parameters, and the peers give flows of the size of the frames."""
    for name in networks:
        if name not in NETWORKS:
            continue
        report = json.loads(subprocess.run([args.ferroflow, "models", name, "--json"], capture_output=True, text=True, check=True).stdout)
        net = NETWORKS[name]()
        found, expected = sum(p.numel() for p in net.parameters()), report["parameters"]
        if found != expected:
            sys.exit("%s has %d parameters in PyTorch, %d in Ferroflow" % (name, found, expected))
        if args.check:
            size = (70, 90)
            with torch.no_grad():
                flow = net.eval()(*(255 * torch.rand(1, 3, *size) for _ in range(2)))
            if flow.shape != (1, 2, *size) or not flow.isfinite().all():
                sys.exit("%s gives %s for frames of %s" % (name, tuple(flow.shape), size))
            print("%s: %d parameters on both sides" % (name, found), file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ferroflow", default="ferroflow")
    parser.add_argument("--device", default="cuda", help="what ferroflow computes on")
    parser.add_argument("--networks", default="pwcnet,flownet2,uflow,lightflow,rill,flownet2-s,flownet2-c")
    parser.add_argument("--loop", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--timeout", type=int, default=120, help="seconds for one of ferroflow's rows")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--check", action="store_true", help="only compare parameter counts and shapes, on the processor")
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
        left = end - time.monotonic()
        if left < 1:
            print("cut off: %s" % json.dumps(key), file=sys.stderr)
            continue
        found = {"ferroflow": ours(args, left, *row)}
        if gpu and network in NETWORKS and time.monotonic() < end:
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
