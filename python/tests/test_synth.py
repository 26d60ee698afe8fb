"""Synthetic pairs: the same everywhere, in threads, workers and forks."""

import hashlib
import itertools
import multiprocessing
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import waves

import ferroflow

SIZE = (64, 96)


def digest(pair: tuple[Any, ...]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in pair)).hexdigest()


def expected(count: int) -> list[str]:
    return [digest(pair) for pair in itertools.islice(ferroflow.synth("chairs", seed=3, size=SIZE), count)]


def test_a_pair_is_what_it_says() -> None:
    frame1, frame2, flow, valid = ferroflow.synth("chairs", seed=3, size=SIZE)[0]
    assert frame1.shape == frame2.shape == (*SIZE, 3) and frame1.dtype == np.uint8
    assert flow.shape == (*SIZE, 2) and flow.dtype == np.float32
    assert valid.shape == SIZE and valid.dtype == np.bool_ and valid.all()
    # Frame 2 brought back along the flow is frame 1, where it can be seen there.
    seen = ferroflow.synth("chairs", seed=3, size=SIZE, effects=False, skip_occluded=True)[0]
    warped, inside = ferroflow.warp(seen[1], seen[2])
    visible = seen[3] & inside
    assert 0.5 < visible.mean() < 1
    assert np.abs(warped.astype(int) - seen[0])[visible].mean() < 6


def test_the_same_pairs_again() -> None:
    first = expected(6)
    assert len(set(first)) == 6
    pairs = ferroflow.synth("chairs", seed=3, size=SIZE)
    assert [digest(pairs[i]) for i in range(6)] == first
    assert [digest(pair) for pair in pairs[1:6:2]] == first[1:6:2]
    assert [digest(pair) for pair in pairs[1::2][1:2]] == first[3:4]
    assert [digest(pair) for pair in pickle.loads(pickle.dumps(pairs[2:5]))] == first[2:5]
    ahead = ferroflow.synth("chairs", seed=3, size=SIZE, threads=3, start=1, step=2, count=3)
    assert [digest(pair) for pair in ahead] == first[1:6:2] == [digest(pair) for pair in ahead]
    assert digest(ferroflow.synth("chairs", seed=4, size=SIZE)[0]) != first[0]
    assert len(pairs[1:6:2]) == 3 and len(ahead) == 3 and len(ferroflow.synth(count=7)[2:]) == 5
    assert repr(pairs[3:]) == 'ferroflow.synth("chairs", seed=3, size=(64, 96), start=3, step=1, count=None)'


def test_what_is_refused() -> None:
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"preset": "stairs"}, ferroflow.DataError, "there is no preset"),
        ({"size": (0, 5)}, ValueError, "size is"),
        ({"size": (70000, 5)}, ValueError, "size is"),
        ({"size": (60000, 60000)}, ferroflow.DataError, "memory"),
        ({"step": 0}, ValueError, "step"),
        ({"threads": 0}, ValueError, "threads"),
        ({"textures": "/nowhere"}, ferroflow.DataError, "nowhere"),
    ]
    for arguments, kind, text in wrong:
        with pytest.raises(kind, match=text):
            ferroflow.synth(**arguments)
    pairs = ferroflow.synth(size=SIZE)
    with pytest.raises(TypeError, match="no end"):
        len(pairs)
    with pytest.raises(IndexError):
        pairs[-1]
    with pytest.raises(IndexError):
        pairs[:3][3]
    for part in (slice(None, None, -1), slice(-3, None), slice(0, 3, 0)):
        with pytest.raises(IndexError, match="forward"):
            pairs[part]


def part(arguments: tuple[Any, int, int]) -> list[str]:
    """What a worker of a data loader does."""
    pairs, worker, workers = arguments
    return [digest(pair) for pair in itertools.islice(pairs[worker::workers], 3)]


def estimate(arguments: tuple[ferroflow.Estimator, int]) -> bytes:
    estimator, shift = arguments
    return np.ascontiguousarray(estimator(waves(64, 96), waves(64, 96, shift))).tobytes()


@pytest.mark.parametrize("method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()])
def test_four_workers(method: str) -> None:
    # The threads of this process are at work before the workers begin.
    estimators = [ferroflow.Estimator("dis"), ferroflow.Estimator(), ferroflow.Estimator("dis", threads=2)]
    flows = [estimate((estimator, 1)) for estimator in estimators]
    pairs = ferroflow.synth("chairs", seed=3, size=SIZE, threads=2)
    whole = expected(12)
    assert digest(next(iter(pairs))) == whole[0]
    with multiprocessing.get_context(method).Pool(4) as pool:
        parts = pool.map_async(part, [(pairs, worker, 4) for worker in range(4)]).get(120)
        assert [parts[i % 4][i // 4] for i in range(12)] == whole
        assert pool.map_async(estimate, [(estimator, 1) for estimator in estimators]).get(120) == flows


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_objects_survive_a_fork_amid_work(tmp_path: Path) -> None:
    """As test_four_workers, with the very objects of the parent, while its threads are at work."""
    estimators = [ferroflow.Estimator("dis"), ferroflow.Estimator(), ferroflow.Estimator("dis", threads=2)]
    flows = [estimate((estimator, 1)) for estimator in estimators]
    ferroflow.write_image(tmp_path / "texture.png", waves(200, 300))
    pictures = ferroflow.synth("chairs", seed=3, size=SIZE, textures=tmp_path)
    others = [digest(pictures[0]), ferroflow.colorize(np.ones((*SIZE, 2), np.float32)).tobytes()]
    ahead = iter(ferroflow.synth("chairs", seed=3, size=SIZE, threads=2))
    whole = expected(4)
    assert digest(next(ahead)) == whole[0]
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            estimate((estimators[1], 2))

    worker = threading.Thread(target=work)
    worker.start()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def child() -> None:
        answers.put([estimate((estimator, 1)) for estimator in estimators])
        answers.put([digest(pair) for pair in itertools.islice(ahead, 3)])
        answers.put([digest(pictures[0]), ferroflow.colorize(np.ones((*SIZE, 2), np.float32)).tobytes()])

    children = [context.Process(target=child) for _ in range(4)]
    for process in children:
        process.start()
    got = [answers.get() for _ in range(12)]
    for process in children:
        process.join(120)
        assert process.exitcode == 0
    stop.set()
    worker.join()
    assert sorted(map(repr, got)) == sorted(4 * [repr(flows)] + 4 * [repr(whole[1:])] + 4 * [repr(others)])
    # And the parent goes on.
    assert digest(next(ahead)) == whole[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_video_is_read_where_it_was_opened(tmp_path: Any) -> None:
    for i in range(3):
        ferroflow.write_image(tmp_path / f"{i}.png", waves(64, 96, i))
    flows = ferroflow.Estimator("dis").video(tmp_path)
    next(flows)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def child() -> None:
        try:
            next(flows)
        except ferroflow.DataError as error:
            answers.put(str(error))

    process = context.Process(target=child)
    process.start()
    assert "open it again" in answers.get()
    process.join()
    next(flows)
