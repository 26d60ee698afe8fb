"""Estimators: what frames they take, what they refuse, and what they copy."""

import gc
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, waves
from numpy.typing import NDArray

import ferroflow
from ferroflow import _native

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equal to the bit, unknown pixels too."""
    return a.dtype == b.dtype and a.shape == b.shape and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def test_a_pair(pair: Pair) -> None:
    for method in (None, "dis", "dis-fast"):
        flow = ferroflow.Estimator(method)(*pair)
        assert flow.shape == (96, 128, 2) and flow.dtype == np.float32
        assert np.abs(flow[20:-20, 20:-20] - (3, 0)).mean() < 0.3, method
    assert not ferroflow.Estimator("zero")(*pair).any()


def test_flows_are_those_of_the_program(bunnies: Pair, tmp_path: Path) -> None:
    for method in ("rill", "dis"):
        out = tmp_path / f"{method}.npy"
        frames = [str(ROOT / "examples" / f"bunny{i}.jpg") for i in (1, 2)]
        assert _native.main(["ferroflow", "estimate", *frames, "-m", method, "-o", str(out)]) == 0
        assert same(ferroflow.Estimator(method)(*bunnies), np.load(out))


def test_what_is_not_copied(pair: Pair, dis: ferroflow.Estimator) -> None:
    first, _ = pair
    assert _native._address(first) == first.ctypes.data
    # Rows of a larger frame are without gaps.
    assert _native._address(first[10:50]) == first[10:50].ctypes.data
    readonly = first.view()
    readonly.flags.writeable = False
    assert _native._address(readonly) == first.ctypes.data
    # What needs a copy gets one.
    for frame in (first[:, 3:], first[::-1], first[..., 0], first / 255):
        assert _native._address(frame) != frame.ctypes.data
    flow = dis(*pair)
    planes = flow.transpose(2, 0, 1)
    # The flow as it was computed, plane by plane, owned by the array.
    assert planes.flags.c_contiguous and not flow.flags.owndata and flow.flags.writeable
    first_u = flow.ctypes.data
    assert planes[1].ctypes.data == first_u + 4 * 96 * 128


class Interface:
    """Shows an array and nothing else."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.__array_interface__ = array.__array_interface__
        self.array = array


class DLPack:
    """Hands an array over by DLPack alone."""

    def __init__(self, array: NDArray[Any], device: int = 1) -> None:
        self.array, self.device = array, device

    def __dlpack__(self, **arguments: Any) -> Any:
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0


def test_dlpack_and_array_interface(pair: Pair, dis: ferroflow.Estimator) -> None:
    expected = dis(*pair)
    for wrap in (Interface, DLPack):
        first, second = (wrap(frame) for frame in pair)
        assert _native._address(first) == pair[0].ctypes.data
        assert same(dis(first, second), expected)
    assert same(np.from_dlpack(expected), expected)
    for gpu in (2, 10):
        with pytest.raises(TypeError, match="memory of another device"):
            dis(DLPack(pair[0], gpu), pair[1])


def test_every_kind_of_number(pair: Pair, dis: ferroflow.Estimator) -> None:
    expected = dis(*pair)
    for convert in (
        lambda a: a.astype(np.uint16) * 257,
        lambda a: a / np.float32(255),
        lambda a: a / 255.0,
        lambda a: np.asfortranarray(a / 255.0),
    ):
        assert same(dis(*map(convert, pair)), expected)
    half = [(frame / 255).astype(np.float16) for frame in pair]
    assert np.abs(dis(*half) - expected).mean() < 0.1
    unaligned = np.zeros(pair[0].size * 4 + 1, np.uint8)[1:].view(np.float32).reshape(pair[0].shape)
    unaligned[...] = pair[0] / np.float32(255)
    assert not unaligned.flags.aligned and same(dis(unaligned, pair[1]), expected)


def test_strides(pair: Pair, dis: ferroflow.Estimator) -> None:
    first, second = pair
    wide = np.zeros((96, 200, 3), np.uint8)
    wide[:, 7:135] = first
    planar = np.ascontiguousarray(first.transpose(2, 0, 1)).transpose(1, 2, 0)
    bgr = np.ascontiguousarray(first[..., ::-1])[..., ::-1]
    flipped = np.ascontiguousarray(first[::-1])[::-1]
    with_alpha = np.dstack([first, first[..., 0]])[..., :3]
    for same_pixels in (wide[:, 7:135], planar, bgr, flipped, with_alpha, np.asfortranarray(first)):
        assert same(dis(same_pixels, second), dis(first, second))
    grey = [frame[..., 1] for frame in pair]
    three = [np.repeat(frame[..., None], 3, axis=-1) for frame in grey]
    assert same(dis(*grey), dis(*three)) and same(dis(*(frame[..., None] for frame in grey)), dis(*three))


def test_sizes(dis: ferroflow.Estimator) -> None:
    rill = ferroflow.Estimator()
    for height, width in ((1, 1), (1, 70), (33, 5), (65, 129)):
        for estimator in (dis, rill):
            assert estimator(waves(height, width), waves(height, width, 1)).shape == (height, width, 2)


def test_what_is_refused(pair: Pair, dis: ferroflow.Estimator) -> None:
    first, second = pair
    shapes: list[Any] = [first.transpose(2, 0, 1), first[..., :2], first[0, 0], first[None, None], np.dstack([first, first[..., :1]])]
    for wrong in shapes:
        with pytest.raises(ValueError, match=r"a frame is \[H, W, 3\]"):
            dis(wrong, second)
    kinds: list[Any] = [first.astype(np.int64), first > 9, first.astype(np.complex64), first.astype(">f4"), first.astype(object)]
    for wrong in kinds:
        with pytest.raises(TypeError, match="frames are uint8"):
            dis(first, wrong)
    nothing: list[Any] = [None, 3, "frame.png", [[1, 2], [3, 4]], first.tolist()]
    for wrong in nothing:
        with pytest.raises(TypeError, match="an array is needed"):
            dis(first, wrong)
    for values in (first.astype(np.float32), np.full(first.shape, np.nan), first / 255 - 0.5):
        with pytest.raises(ValueError, match="float frames are 0..=1"):
            dis(values, second)
    with pytest.raises(ferroflow.EstimateError, match="both must have one size"):
        dis(first, second[:-1])
    with pytest.raises(ferroflow.EstimateError, match="no pixels"):
        dis(first[:0], second[:0])
    with pytest.raises(ValueError, match="both are frames or both"):
        dis(first, second[None])
    with pytest.raises(ValueError, match="as many frames"):
        dis(first[None], np.stack([second, second]))
    with pytest.raises(TypeError):
        dis(first)  # type: ignore[call-arg]


def test_what_no_estimator_is(tmp_path: Path) -> None:
    refused: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"method": "flownet3"}, ferroflow.NetworkError, "there is no network `flownet3`"),
        ({"method": "pwcnet"}, ferroflow.WeightsError, "no built-in weights"),
        ({"method": tmp_path / "none.safetensors"}, ferroflow.WeightsError, "none.safetensors"),
        ({"method": 7}, TypeError, "a name, a path or Weights"),
        ({"method": "dis", "fit": "pad"}, ValueError, "belong to networks"),
        ({"fit": "stretch"}, ValueError, "pad"),
        ({"precision": "f64"}, ValueError, "bf16"),
        ({"precision": "bf16", "exact": True}, ValueError, "contradict"),
        ({"device": "abacus"}, ferroflow.DeviceError, "no such device"),
        ({"threads": 0}, ValueError, "from 1 to"),
        ({"threads": -1}, OverflowError, "negative"),
        ({"size": (100, 100)}, ferroflow.EstimateError, "multiples of"),
        ({"tile": (8, 8)}, ferroflow.EstimateError, "too small"),
        ({"stop_below": 0.1}, ferroflow.EstimateError, "no iterations"),
        ({"stop_below": -1.0}, ValueError, "above 0"),
        ({"options": {"depth": 3}}, ferroflow.NetworkError, "no option `depth`"),
        ({"colour": "red"}, TypeError, "unexpected keyword"),
    ]
    for arguments, kind, text in refused:
        with pytest.raises(kind, match=text):
            ferroflow.Estimator(**arguments)
    assert issubclass(ferroflow.WeightsError, ferroflow.Error) and not issubclass(ferroflow.Error, ValueError)
    damaged = tmp_path / "w.safetensors"
    damaged.write_bytes(b"\5\0\0\0\0\0\0\0{")
    with pytest.raises(ferroflow.WeightsError, match="not a readable safetensors file"):
        ferroflow.Estimator(damaged)


def test_batches(pair: Pair, dis: ferroflow.Estimator) -> None:
    first, second = pair
    flows = dis(np.stack([first, second, first]), np.stack([second, first, first]))
    assert flows.shape == (3, 96, 128, 2)
    for flow, (a, b) in zip(flows, ((first, second), (second, first), (first, first)), strict=True):
        assert same(flow, dis(a, b))
    assert flows.transpose(0, 3, 1, 2).flags.c_contiguous
    batch = np.stack([first, second])
    floats = dis(batch / 255, batch[::-1] / 255)
    assert same(floats[0], dis(first, second))


def test_both_directions(pair: Pair, dis: ferroflow.Estimator) -> None:
    both = dis.both(*pair)
    assert same(both.forward, dis(*pair)) and same(both.backward, dis(*reversed(pair)))
    assert both.occluded.dtype == np.bool_ and both.occluded.shape == both.error.shape == both.confidence.shape == (96, 128)
    occluded, error, confidence = ferroflow.consistency(both.forward, both.backward)
    assert same(occluded, both.occluded) and same(error, both.error) and same(confidence, both.confidence)
    assert repr(both) == "<ferroflow.Bidirectional: 96x128>"


def test_unknown_flow_is_nan() -> None:
    first, second = waves(100, 150), waves(100, 150, 2)
    flow = ferroflow.Estimator(fit="crop")(first, second)
    unknown = np.isnan(flow[..., 0]) & np.isnan(flow[..., 1])
    assert unknown[0, 0] and not unknown[50, 75] and 0 < unknown.mean() < 0.7


def test_options_of_networks(pair: Pair) -> None:
    plain = ferroflow.Estimator()(*pair)
    assert not same(ferroflow.Estimator(options={"iterations-8": 6})(*pair), plain)
    assert ferroflow.Estimator(size=(192, 256))(*pair).shape == plain.shape
    exact = ferroflow.Estimator(exact=True, threads=2)(*pair)
    assert np.abs(exact - plain).max() < 0.05
    tiled = ferroflow.Estimator("dis", tile=(64, 64))(*pair)
    assert tiled.shape == plain.shape
    estimator = ferroflow.Estimator()
    assert estimator.name == "rill" and "built-in weights" in repr(estimator)


def test_pickles(pair: Pair) -> None:
    requests: list[dict[str, Any]] = [
        {"method": "dis"},
        {"fit": "crop", "options": {"iterations-8": 6}, "threads": 2},
        {"method": ferroflow.load_weights()},
    ]
    for arguments in requests:
        estimator = ferroflow.Estimator(**arguments)
        again = pickle.loads(pickle.dumps(estimator))
        assert same(again(*pair), estimator(*pair))


def test_video(pair: Pair, dis: ferroflow.Estimator, tmp_path: Path) -> None:
    frames = [waves(64, 96, shift) for shift in (0, 1, 3)]
    for i, frame in enumerate(frames):
        ferroflow.write_image(tmp_path / f"{i}.png", frame)
    expected = [dis(frames[0], frames[1]), dis(frames[1], frames[2])]
    assert [same(*flows) for flows in zip(dis.video(tmp_path), expected, strict=True)] == [True, True]
    assert all(same(*frames) for frames in zip(ferroflow.read_video(tmp_path), frames, strict=True))
    # One array for all frames, as video readers have it.
    buffer = np.empty_like(frames[0])

    def reader() -> Any:
        for frame in frames:
            buffer[...] = frame
            yield buffer

    assert [same(*flows) for flows in zip(dis.video(reader()), expected, strict=True)] == [True, True]
    # A gap in the numbers changes what a flow means.
    (tmp_path / "2.png").rename(tmp_path / "5.png")
    with pytest.warns(UserWarning, match="3 frames are missing"):
        assert len(list(dis.video(tmp_path))) == 2
    both = list(dis.video(iter(frames), both=True))
    assert same(both[1].backward, dis(frames[2], frames[1]))
    with pytest.raises(ferroflow.DataError, match="cannot read"):
        dis.video(tmp_path / "none.mp4")
    with pytest.raises(TypeError, match="a path or an iterable"):
        dis.video(3)  # type: ignore[call-overload]

    def broken() -> Any:
        yield frames[0]
        raise LookupError("the camera is gone")

    with pytest.raises(LookupError, match="gone"):
        next(dis.video(broken()))


def test_eight_threads_at_once(pair: Pair) -> None:
    for method in ("dis", "rill"):
        estimator = ferroflow.Estimator(method)
        expected = estimator(*pair)
        wrong: list[int] = []

        def work(number: int) -> None:
            for _ in range(5):
                if not same(estimator(*pair), expected):
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_the_lock_of_python_is_released() -> None:
    estimator = ferroflow.Estimator()
    first, second = waves(448, 512), waves(448, 512, 2)
    estimator(first, second)
    ticks, done = 0, threading.Event()

    def estimate() -> None:
        estimator(first, second)
        done.set()

    thread = threading.Thread(target=estimate)
    thread.start()
    while not done.wait(0.0005):
        ticks += 1
    thread.join()
    # Held, the lock would be given up for at most one tick.
    assert ticks > 3


def test_ctrl_c_is_heard_between_the_pairs_of_a_batch(dis: ferroflow.Estimator) -> None:
    many = np.broadcast_to(waves(64, 96), (5_000, 64, 96, 3))
    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        dis(many, many)
    assert time.monotonic() - start < 5


def resident() -> int:
    """Bytes of memory that this process has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell the memory of a process")
def test_a_thousand_estimates_take_no_more_memory(dis: ferroflow.Estimator) -> None:
    first, second = waves(64, 96), waves(64, 96, 1)
    for _ in range(200):
        dis(first, second[..., ::-1])
    gc.collect()
    before = resident()
    for _ in range(1000):
        dis(first, second[..., ::-1])
    gc.collect()
    # A single array lost in each call would be 1000 times 18 to 49 kB.
    assert resident() - before < 8 << 20
