"""Frames that tests share."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import ferroflow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def bunnies() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The pair of frames that comes along."""
    first, second = (ferroflow.read_image(ROOT / "examples" / f"bunny{i}.jpg") for i in (1, 2))
    return first, second


def waves(height: int, width: int, shift: float = 0.0) -> NDArray[np.uint8]:
    """A textured frame whose pattern is moved to the right."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    x -= shift
    planes = [
        128 + 60 * np.sin(0.31 * x + phase) * np.cos(0.27 * y) + 40 * np.sin(0.11 * (x + 2 * y) + phase)
        for phase in (0.0, 1.0, 2.0)
    ]
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def pair() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A small pair that moves 3 px to the right."""
    return waves(96, 128), waves(96, 128, 3.0)


@pytest.fixture(scope="session")
def dis() -> ferroflow.Estimator:
    return ferroflow.Estimator("dis")

