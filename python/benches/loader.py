"""Pairs a second that PyTorch's DataLoader gets: made by ``synth``, and read from files as those of FlyingChairs.

python python/benches/loader.py [WORKERS]. It needs PyTorch, Pillow and OpenCV. Files are read as RAFT reads them, without augmentation
and with the one that RAFT trains FlyingChairs with. They are made by ``ferroflow synth`` first, and lie in memory (the system's cache)
when they are read.
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
from PIL import Image, ImageEnhance
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

import ferroflow

CROP, FILES, BATCH = (320, 448), 160, 4
# The generator's first pairs also draw the textures of those that follow.
WARM, MEASURED = 40, 60


class Made(IterableDataset[Any]):
    def __iter__(self) -> Any:
        worker = get_worker_info()
        pairs = ferroflow.synth("chairs", seed=1, size=CROP)
        return iter(pairs if worker is None else pairs[worker.id :: worker.num_workers])


class Read(Dataset[Any]):
    """FlyingChairs' files, as they are, or augmented by RAFT's ``FlowAugmentor``."""

    def __init__(self, folder: Path, augmented: bool) -> None:
        self.files = 4 * sorted(folder.rglob("*_flow.flo"))
        self.augmented = augmented

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        random = np.random.default_rng()
        stem = str(self.files[index]).removesuffix("_flow.flo")
        images = [np.array(Image.open(f"{stem}_img{i}.ppm")) for i in (1, 2)]
        data = np.fromfile(f"{stem}_flow.flo", np.float32, offset=12)
        flow = data.reshape(*images[0].shape[:2], 2)
        if self.augmented:
            images, flow = resized(colours(images, random), flow, random)
        y, x = (random.integers(0, have - want + 1) for have, want in zip(flow.shape, CROP))
        cut = (slice(y, y + CROP[0]), slice(x, x + CROP[1]))
        return *(np.ascontiguousarray(image[cut]) for image in images), np.ascontiguousarray(flow[cut])


def colours(images: list[Any], random: Any) -> list[Any]:
    """Torchvision's ``ColorJitter(0.4, 0.4, 0.4, 0.5 / 3.14)`` on both frames in one image of Pillow."""
    both = Image.fromarray(np.concatenate(images))

    def hue(image: Any) -> Any:
        h, s, v = image.convert("HSV").split()
        turned = np.array(h) + np.uint8(random.uniform(-0.16, 0.16) * 255 % 256)
        return Image.merge("HSV", (Image.fromarray(turned), s, v)).convert("RGB")

    def enhance(kind: Any) -> Any:
        return lambda image: kind(image).enhance(random.uniform(0.6, 1.4))

    steps = [enhance(ImageEnhance.Brightness), enhance(ImageEnhance.Contrast), enhance(ImageEnhance.Color), hue]
    for number in random.permutation(4):
        both = steps[number](both)
    return list(np.split(np.array(both), 2))


def resized(images: list[Any], flow: Any, random: Any) -> tuple[list[Any], Any]:
    """By 2^-0.1 to 2, in four of five cases, but never to less than the crop."""
    if random.random() >= 0.8:
        return images, flow
    least = max((want + 8) / have for have, want in zip(flow.shape, CROP))
    fx, fy = np.maximum(2 ** random.uniform(-0.1, 1.0) * 2 ** random.uniform(-0.2, 0.2, 2), least)
    size = {"dsize": None, "fx": fx, "fy": fy, "interpolation": cv2.INTER_LINEAR}
    return [cv2.resize(image, **size) for image in images], cv2.resize(flow, **size) * np.float32([fx, fy])


def rate(data: Any, workers: int) -> float:
    loader = DataLoader(data, batch_size=BATCH, num_workers=workers)
    batches = iter(loader)
    for _ in range(WARM):
        next(batches)
    start = time.perf_counter()
    for _ in range(MEASURED):
        next(batches)
    return BATCH * MEASURED / (time.perf_counter() - start)


if __name__ == "__main__":
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else torch.multiprocessing.cpu_count()
    with tempfile.TemporaryDirectory() as folder:
        made = [sys.executable, "-m", "ferroflow", "synth", "chairs", "--size", "384x512", "--count", str(FILES), "-o", folder]
        subprocess.run(made, check=True, capture_output=True)
        sources = {"synth": Made(), "files": Read(Path(folder), False), "files with RAFT's augmentation": Read(Path(folder), True)}
        for turn in range(3):
            print(f"turn {turn}:", ", ".join(f"{name} {rate(data, workers):.1f} pairs/s" for name, data in sources.items()))
