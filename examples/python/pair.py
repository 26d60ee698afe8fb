"""The flow of two images: python examples/python/pair.py [FRAME1 FRAME2]

Writes flow.png, a picture of it, and flow.flo.
"""

import sys
from pathlib import Path

import numpy as np

import ferroflow

frames = sys.argv[1:] or [Path(__file__).parents[1] / f"bunny{i}.jpg" for i in (1, 2)]
first, second = (ferroflow.read_image(frame) for frame in frames)

# rill, the network whose weights come along; "dis" would estimate without learning.
estimator = ferroflow.Estimator()
flow = estimator(first, second)
height, width, _ = flow.shape
u, v = flow[height // 2, width // 2]
print(f"{estimator!r}")
print(f"the pixel in the middle moved {u:.2f} px to the right and {v:.2f} px down")

# What the flow says can be checked on the frames: brought back along it, the second one looks like the first.
warped, inside = ferroflow.warp(second, flow)
before, after = (np.abs(frame.astype(int) - first)[inside].mean() for frame in (second, warped))
print(f"the frames differ by {before:.1f} grey levels, brought back by {after:.1f}")

both = estimator.both(first, second)
print(f"{100 * both.occluded.mean():.1f} % of the first frame cannot be seen in the second")

ferroflow.write_image("flow.png", ferroflow.colorize(flow))
ferroflow.write_flow("flow.flo", flow)
