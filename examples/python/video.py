"""How much moves in a video, frame by frame: python examples/python/video.py [VIDEO|FOLDER]

The flow of any source of frames is estimated in the same way: a generator around cv2.VideoCapture, imageio or a camera.
"""

import sys
from pathlib import Path

import numpy as np

import ferroflow

video = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]
estimator = ferroflow.Estimator("dis")

# One pair at a time: memory does not grow with the length.
for i, both in enumerate(estimator.video(video, both=True)):
    length = np.linalg.norm(both.forward, axis=-1)
    print(f"frame {i}: {length.mean():.2f} px on average, {100 * both.occluded.mean():.1f} % is hidden in the next")


def mirrored(path: str | Path):
    """Frames from somewhere else: here those of the video, seen in a mirror."""
    for frame in ferroflow.read_video(path):
        yield frame[:, ::-1]


for flow in estimator.video(mirrored(video)):
    print(f"in the mirror it moves {flow[..., 0].mean():+.2f} px to the right")
