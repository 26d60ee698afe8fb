"""From OpenCV to Ferroflow: the same arrays, the same shapes."""

from pathlib import Path

import cv2
import numpy as np

import ferroflow

prev, next = (cv2.imread(str(Path(__file__).parents[1] / f"bunny{i}.jpg")) for i in (1, 2))
grey = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in (prev, next)]

theirs = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
# The same method; in colour, and with the network that comes along, it takes OpenCV's order, blue first.
ours = ferroflow.calc_optical_flow(*grey, None, estimator=ferroflow.Estimator("dis"))
learned = ferroflow.calc_optical_flow(prev, next, None)

for name, flow in (("OpenCV's DIS", theirs), ("Ferroflow's DIS", ours), ("Ferroflow's rill", learned)):
    # Everything that takes OpenCV's flow takes Ferroflow's: here cv2.remap brings the second frame back.
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    back = cv2.remap(next, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    print(f"{name}: brought back, frame 2 differs from frame 1 by {np.abs(back.astype(int) - prev).mean():.2f} grey levels")
