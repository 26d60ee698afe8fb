"""PyTorch's tensors and loaders, where it is installed."""

from typing import Any

import numpy as np
import pytest
from conftest import waves

import ferroflow
from ferroflow import _native

torch = pytest.importorskip("torch")


def test_tensors_are_taken_without_a_copy(dis: ferroflow.Estimator) -> None:
    frames = waves(96, 128), waves(96, 128, 3)
    first, second = map(torch.from_numpy, frames)
    assert _native._address(first) == first.data_ptr()
    flow = dis(first, second)
    assert np.array_equal(flow, dis(*frames))
    assert np.array_equal(dis(first.float() / 255, second.double() / 255), flow)
    planar = first.permute(2, 0, 1).contiguous()
    assert np.array_equal(dis(planar.permute(1, 2, 0), second), flow)
    # And back: planes in PyTorch's order, in the same memory.
    for tensor in (torch.from_dlpack(flow), torch.from_numpy(flow)):
        assert tensor.data_ptr() == flow.ctypes.data and tensor.permute(2, 0, 1).is_contiguous()


def test_tensors_that_are_refused(dis: ferroflow.Estimator) -> None:
    frame = torch.from_numpy(waves(96, 128))
    refused: list[tuple[Any, type[Exception], str]] = [
        (frame.permute(2, 0, 1), ValueError, r"\.permute\(1, 2, 0\)"),
        (frame.long(), TypeError, "not int64"),
        (frame.float().div(255).requires_grad_(), TypeError, "use tensor.detach"),
        (frame.bfloat16() / 255, TypeError, "DLPack"),
        (frame.to_sparse(), TypeError, "DLPack"),
    ]
    if torch.cuda.is_available():
        refused.append((frame.cuda(), TypeError, r"\.cpu\(\)"))
    for tensor, kind, text in refused:
        with pytest.raises(kind, match=text):
            dis(tensor, frame)


class Pairs(torch.utils.data.IterableDataset):  # type: ignore[name-defined, misc]
    def __iter__(self) -> Any:
        worker = torch.utils.data.get_worker_info()
        pairs = ferroflow.synth("chairs", seed=3, size=(64, 96), count=8)
        return iter(pairs if worker is None else pairs[worker.id :: worker.num_workers])


@pytest.mark.parametrize("context", [None, "fork", "spawn"])
def test_the_loader_gets_every_pair_once(context: str | None) -> None:
    workers = 2 if context else 0
    loader = torch.utils.data.DataLoader(Pairs(), batch_size=2, num_workers=workers, multiprocessing_context=context)
    batches = list(loader)
    assert [tuple(part.shape) for part in batches[0]] == [(2, 64, 96, 3), (2, 64, 96, 3), (2, 64, 96, 2), (2, 64, 96)]
    got = sorted(pair.numpy().tobytes() for batch in batches for pair in batch[0])
    assert got == sorted(pair[0].tobytes() for pair in ferroflow.synth("chairs", seed=3, size=(64, 96), count=8))
