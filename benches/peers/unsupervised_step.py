"""Times a training step without labels in PyTorch: ptlflow's PWC-Net, flow both ways, census and edge-aware smoothness, Adam.

    pip install torch ptlflow
    python benches/peers/unsupervised_step.py --size 384x512 --batch 1 --steps 10

Beside it, on the same machine:

    ferroflow train uflow-chairs --set model=pwcnet --set level_dropout=0 --set 'unsupervised={weight_selfsup=0,weight_smooth1=4,weight_smooth2=0}' \
        --set data=synth:chairs@size=384x512 --set 'validate=[]' --set steps=12 --set log_every=1 --out RUN

The losses are those of `loss = "uflow"`: the soft census transform of 7x7 patches with the cost (|d| + 0.01)^0.4, pixels whose flow
leaves the frame or where nothing arrives from the other frame left out, and smoothness of first order at a quarter of the size.
Prints one line of JSON: the median and the shortest step in seconds, and the largest memory of the process in MB.
"""

import argparse
import json
import os
import resource
import statistics
import time
import warnings

import torch
import torch.nn.functional as F

warnings.filterwarnings("ignore")


def grid(flow):
    """Where flow [N, 2, H, W] in pixels ends, [N, H, W, 2]."""
    _, _, height, width = flow.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], -1).to(flow) + flow.permute(0, 2, 3, 1)


def warp(image, flow):
    """The image sampled along the flow, zero outside."""
    _, _, height, width = flow.shape
    at = grid(flow) * 2 / flow.new_tensor([width - 1, height - 1]) - 1
    return F.grid_sample(image, at, align_corners=True)


def inside(flow):
    """1 where the flow ends inside the frame, [N, 1, H, W]."""
    _, _, height, width = flow.shape
    x, y = grid(flow).unbind(-1)
    return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).float()[:, None]


def arrivals(flow):
    """The range map of Wang et al.: how much arrives at each pixel along the flow, [N, 1, H, W]."""
    n, _, height, width = flow.shape
    x, y = grid(flow).unbind(-1)
    total = flow.new_zeros(n, height * width)
    for column in (x.floor(), x.floor() + 1):
        for row in (y.floor(), y.floor() + 1):
            share = (1 - (x - column).abs()) * (1 - (y - row).abs())
            share = share * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
            index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            total.scatter_add_(1, index.long().flatten(1), share.flatten(1))
    return total.view(n, 1, height, width)


def transform(image):
    """The soft census transform of an RGB image of 0 to 1, 49 channels."""
    grey = 255 * (image * image.new_tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    patches = F.conv2d(grey, torch.eye(49).view(49, 1, 7, 7), padding=3) - grey
    return patches / (0.81 + patches**2).sqrt()


def census(image, other, mask):
    """The census loss over pixels that count and have a whole patch."""
    e = (transform(image) - transform(other)) ** 2
    distance = (e / (0.1 + e)).sum(1, keepdim=True)
    mask = F.pad(mask[:, :, 3:-3, 3:-3], (3, 3, 3, 3))
    return (mask * (distance.abs() + 0.01) ** 0.4).sum() / (mask.sum().detach() + 1e-6 * mask.numel())


def smoothness(image, flow):
    """Charbonnier cost of the flow's first derivatives, less where the image changes."""
    loss = 0
    for axis in (2, 3):
        d_image, d_flow = image.diff(dim=axis), flow.diff(dim=axis)
        weight = torch.exp(-(150 * d_image).abs().mean(1, keepdim=True))
        loss = loss + 0.5 * (weight * (d_flow**2 + 0.001**2).sqrt()).mean()
    return loss


def losses(first, second, quarter):
    """Of frames of 0 to 1 and flow both ways at a quarter of their size: all forward, then all backward."""
    size = first.shape[-2:]
    flow = 4 * F.interpolate(quarter, size=size, mode="bilinear", align_corners=False)
    back = flow.roll(len(first), 0)
    frames, others = torch.cat([first, second]), torch.cat([second, first])
    with torch.no_grad():
        mask = inside(flow) * arrivals(back).clamp(0, 1)
    small = F.interpolate(frames, scale_factor=0.25, mode="bilinear", align_corners=False)
    return census(frames, warp(others, flow), mask) + 4 * smoothness(small, quarter)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="384x512", help="HEIGHTxWIDTH of the frames")
    parser.add_argument("--batch", type=int, default=1, help="pairs of a step")
    parser.add_argument("--steps", type=int, default=10, help="timed steps, after one that is not")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    height, width = map(int, args.size.split("x"))

    from ptlflow import get_model

    model = get_model("pwcnet").train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    torch.manual_seed(0)
    texture = F.interpolate(torch.rand(args.batch, 3, height // 8, width // 8), size=(height, width), mode="bicubic")
    first, second = texture.clamp(0, 1), texture.roll(3, 3).clamp(0, 1)
    pairs = torch.cat([torch.stack([first, second], 1), torch.stack([second, first], 1)])
    seconds = []
    for step in range(args.steps + 1):
        start = time.perf_counter()
        output = model({"images": pairs})
        # The finest flow, in units of 20 pixels.
        quarter = 5 * output["flow_preds"][0]
        loss = losses(first, second, quarter)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step > 0:
            seconds.append(time.perf_counter() - start)
    print(
        json.dumps(
            {
                "engine": f"torch {torch.__version__}",
                "model": "ptlflow pwcnet",
                "size": args.size,
                "batch": args.batch,
                "threads": args.threads,
                "median_s": round(statistics.median(seconds), 4),
                "best_s": round(min(seconds), 4),
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
