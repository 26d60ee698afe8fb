"""Pairs a second that PyTorch's DataLoader gets: made by ``synth``, and read from files as those of FlyingChairs.

python python/benches/loader.py [WORKERS]. It needs PyTorch, and OpenCV for the augmentation that RAFT trains FlyingChairs with: resizing,
colours, a crop. The files are made by ``ferroflow synth`` first; they lie in memory (the system's cache) when they are read.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

import ferroflow

CROP, COUNT, BATCH = (320, 448), 160, 4


class Made(IterableDataset[Any]):
    def __iter__(self) -> Any:
        worker = get_worker_info()
        pairs = ferroflow.synth("chairs", seed=1, size=CROP)
        return iter(pairs if worker is None else pairs[worker.id :: worker.num_workers])


class Read(Dataset[Any]):
    """FlyingChairs' files, as they are or augmented as RAFT's ``FlowAugmentor`` does."""

    def __init__(self, folder: Path, augmented: bool) -> None:
        self.files = sorted(folder.rglob("*_flow.flo"))
        self.augmented = augmented

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        stem = str(self.files[index]).removesuffix("_flow.flo")
        images = [cv2.imread(f"{stem}_img{i}.ppm")[..., ::-1] for i in (1, 2)]
        data = np.fromfile(f"{stem}_flow.flo", np.float32, offset=12)
        flow = data.reshape(*images[0].shape[:2], 2)
        if self.augmented:
            images, flow = augment(images, flow)
        y, x = 16, 16
        cut = (slice(y, y + CROP[0]), slice(x, x + CROP[1]))
        return *(np.ascontiguousarray(image[cut]) for image in images), flow[cut].copy()


def augment(images: list[Any], flow: Any) -> tuple[list[Any], Any]:
    random = np.random.default_rng()
    # Brightness, contrast, saturation and hue, in another order of cost than torchvision's, which RAFT uses and which is slower.
    changed = []
    for image in images:
        hsv = cv2.cvtColor(cv2.convertScaleAbs(image, alpha=random.uniform(0.6, 1.4), beta=random.uniform(-40, 40)), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + random.integers(-28, 29)) % 180
        changed.append(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
    scale = 2 ** random.uniform(-0.1, 1.0)
    size = {"dsize": None, "fx": scale, "fy": scale, "interpolation": cv2.INTER_LINEAR}
    return [cv2.resize(image, **size) for image in changed], cv2.resize(flow, **size) * scale


def rate(data: Any, workers: int) -> float:
    loader = DataLoader(data, batch_size=BATCH, num_workers=workers)
    batches = iter(loader)
    next(batches)
    start, pairs = time.perf_counter(), 0
    for _, batch in zip(range(COUNT // BATCH - 2), batches):
        pairs += len(batch[0])
    return pairs / (time.perf_counter() - start)


if __name__ == "__main__":
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else torch.multiprocessing.cpu_count()
    with tempfile.TemporaryDirectory() as folder:
        made = [sys.executable, "-m", "ferroflow", "synth", "chairs", "--size", "384x512", "--count", str(COUNT), "-o", folder]
        subprocess.run(made, check=True, capture_output=True)
        sources = {"synth": Made(), "files": Read(Path(folder), False), "files, augmented": Read(Path(folder), True)}
        for turn in range(3):
            print(f"turn {turn}:", ", ".join(f"{name} {rate(data, workers):.1f} pairs/s" for name, data in sources.items()))
