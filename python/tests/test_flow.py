"""Files, pictures and measures; OpenCV as a peer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, waves
from numpy.typing import NDArray

import ferroflow

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture
def flow() -> NDArray[np.float32]:
    y, x = np.mgrid[:40, :60].astype(np.float32)
    # Multiples of 1/64, so that KITTI's format holds them.
    return np.stack([x / 4 - 5, 7 - y / 8], axis=-1)


def test_files_of_flow(flow: NDArray[np.float32], tmp_path: Path) -> None:
    unknown = flow.copy()
    unknown[3, 4] = np.nan
    for extension in ("flo", "pfm", "png", "npy", "npz"):
        path = tmp_path / f"a.{extension}"
        ferroflow.write_flow(path, flow)
        assert np.array_equal(ferroflow.read_flow(path), flow), extension
        ferroflow.write_flow(path, unknown.astype(np.float64))
        assert np.array_equal(ferroflow.read_flow(str(path)), unknown, equal_nan=True), extension
    far = flow + 600
    with pytest.raises(ferroflow.FileError, match="vectors reach beyond"):
        ferroflow.write_flow(tmp_path / "far.png", far)
    ferroflow.write_flow(tmp_path / "far.png", far, clip=True)
    refused: list[tuple[Any, type[Exception]]] = [
        (flow[..., 0], ValueError),
        (flow[None], ValueError),
        (flow.astype(int), TypeError),
        (None, TypeError),
    ]
    for wrong, kind in refused:
        with pytest.raises(kind):
            ferroflow.write_flow(tmp_path / "b.flo", wrong)
    with pytest.raises(ferroflow.FileError, match="is no flow format"):
        ferroflow.write_flow(tmp_path / "b.txt", flow)
    (tmp_path / "cut.flo").write_bytes((tmp_path / "a.flo").read_bytes()[:-3])
    with pytest.raises(ferroflow.FileError, match="cut.flo"):
        ferroflow.read_flow(tmp_path / "cut.flo")
    assert not (tmp_path / "b.flo").exists()


def test_images(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    frame = waves(31, 45)
    for extension in ("png", "ppm", "bmp", "tif", "webp"):
        path = tmp_path / f"a.{extension}"
        ferroflow.write_image(path, frame)
        assert np.array_equal(ferroflow.read_image(path), frame)
        # OpenCV has blue first.
        assert np.array_equal(cv2.imread(str(path))[..., ::-1], frame)
    with pytest.raises(ferroflow.FileError, match="none.png"):
        ferroflow.read_image(tmp_path / "none.png")


def test_colours() -> None:
    flow = np.zeros((20, 30, 2), np.float32)
    flow[:, 15:, 0] = 4
    wheel = ferroflow.colorize(flow)
    assert wheel.shape == (20, 30, 3) and wheel.dtype == np.uint8
    # Middlebury's wheel: white at rest, and to the right it is red.
    assert tuple(wheel[0, 0]) == (255, 255, 255) and tuple(wheel[0, 20]) == (255, 0, 0)
    assert not np.array_equal(ferroflow.colorize(flow, scale=8), wheel)
    flow[5, 5] = np.nan
    for style in ("wheel", "hsv", "rgb"):
        assert not ferroflow.colorize(flow, style=style)[5, 5].any()
    for arguments in ({"style": "arrows"}, {"scale": 0}, {"scale": np.inf}):
        with pytest.raises(ValueError):
            ferroflow.colorize(flow, **arguments)


def test_warp() -> None:
    first, second = waves(48, 64), waves(48, 64, 3)
    flow = np.zeros((48, 64, 2), np.float32)
    flow[..., 0] = 3
    warped, inside = ferroflow.warp(second, flow)
    assert np.array_equal(warped[inside], first[inside]) and inside[:, :61].all() and not inside[:, 61:].any()
    assert not warped[~inside].any()


def test_metrics() -> None:
    truth = np.zeros((10, 20, 2), np.float32)
    truth[..., 0] = 20
    estimate = truth.copy()
    estimate[:5, :, 1] = 4
    found = ferroflow.metrics(estimate, truth)
    assert found["epe"] == 2 and found["px3"] == 50 and found["px5"] == 0 and found["fl"] == 50
    assert found["s10_40"] == 2 and found["s0_10"] is None and found["matched"] is None and found["unanswered"] == 0
    upper = np.zeros((10, 20), bool)
    upper[:5] = True
    assert ferroflow.metrics(estimate, truth, valid=upper)["epe"] == 4
    both = ferroflow.metrics(estimate, truth, occluded=upper.astype(np.uint8))
    assert both["unmatched"] == 4 and both["matched"] == 0
    truth[0] = np.nan
    assert ferroflow.metrics(estimate, truth)["density"] == 90
    with pytest.raises(ValueError, match="nothing can be scored"):
        ferroflow.metrics(estimate, np.full_like(truth, np.nan))
    with pytest.raises(ValueError, match="the truth"):
        ferroflow.metrics(estimate[1:], truth)
    for wrong in (upper[1:], upper[None], np.zeros((10, 20))):
        with pytest.raises((ValueError, TypeError)):
            ferroflow.metrics(estimate, truth, valid=wrong)


def test_consistency_by_hand() -> None:
    forward, backward = np.zeros((8, 12, 2), np.float32), np.zeros((8, 12, 2), np.float32)
    forward[..., 0], backward[..., 0] = 2, -2
    occluded, error, confidence = ferroflow.consistency(forward, backward)
    # What leaves the frame does not come back.
    assert occluded[:, 10:].all() and not occluded[:, :10].any()
    assert not error[:, :10].any() and np.isinf(error[:, 10:]).all() and (confidence[:, :10] == 1).all()
    backward[...] = 0
    assert ferroflow.consistency(forward, backward)[0].all()
    assert not ferroflow.consistency(forward, backward, alpha2=5)[0][:, :10].any()
    with pytest.raises(ValueError):
        ferroflow.consistency(forward, backward[1:])


def test_in_the_way_of_opencv(bunnies: Pair) -> None:
    cv2 = pytest.importorskip("cv2")
    bgr = [cv2.imread(str(ROOT / "examples" / f"bunny{i}.jpg")) for i in (1, 2)]
    grey = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in bgr]
    theirs = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
    dis = ferroflow.Estimator("dis")
    ours = ferroflow.calc_optical_flow(grey[0], grey[1], None, estimator=dis)
    assert ours.flags.c_contiguous and ours.shape == theirs.shape and ours.dtype == theirs.dtype
    # Two implementations of one method: half a pixel apart on average, where the motion is several.
    assert np.linalg.norm(ours - theirs, axis=-1).mean() < 0.2 * np.linalg.norm(theirs, axis=-1).mean()
    assert np.array_equal(ours, dis(*grey))
    # Blue first, as OpenCV has it.
    rill = ferroflow.Estimator()
    flow = np.empty((*bgr[0].shape[:2], 2), np.float32)
    assert ferroflow.calc_optical_flow(bgr[0], bgr[1], flow) is flow
    assert np.array_equal(flow, rill(*(frame[..., ::-1] for frame in bgr)))
    wrong: list[Any] = [flow[1:], flow.astype(np.float64), "flow"]
    for out in wrong:
        with pytest.raises(ValueError, match="flow is an array of float32"):
            ferroflow.calc_optical_flow(bgr[0], bgr[1], out)
    flow.flags.writeable = False
    with pytest.raises(ValueError):
        ferroflow.calc_optical_flow(bgr[0], bgr[1], flow)
