"""Weights as files and as arrays, and networks for other runtimes."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import waves

import ferroflow


def test_weights_are_arrays(tmp_path: Path) -> None:
    weights = ferroflow.load_weights()
    state = weights.state_dict()
    assert weights.model == "rill" and sum(array.size for array in state.values()) == ferroflow.models()["rill"]["parameters"]
    assert all(array.dtype == np.float32 for array in state.values()) and weights.provenance["license"]
    again = ferroflow.Weights("rill", state, options=weights.options, provenance=weights.provenance)
    path = tmp_path / "w.safetensors"
    again.save(path)
    opened = ferroflow.load_weights(path)
    for other in (again, opened, pickle.loads(pickle.dumps(weights))):
        assert (other.model, other.options, other.provenance) == (weights.model, weights.options, weights.provenance)
        assert all(np.array_equal(array, state[name]) for name, array in other.state_dict().items())
    frames = waves(64, 96), waves(64, 96, 2)
    flow = ferroflow.Estimator()(*frames)
    for estimator in (ferroflow.Estimator(path), ferroflow.Estimator(again), ferroflow.Estimator("rill", weights=path)):
        assert np.array_equal(estimator(*frames), flow)
    half = tmp_path / "half.safetensors"
    again.save(half, half=True)
    assert half.stat().st_size < 0.6 * path.stat().st_size
    changed = {name: array * 0.5 for name, array in state.items()}
    assert not np.array_equal(ferroflow.Estimator(ferroflow.Weights("rill", changed))(*frames), flow)


def test_what_is_refused(tmp_path: Path) -> None:
    state = ferroflow.load_weights().state_dict()
    first = next(iter(state))
    with pytest.raises(ferroflow.WeightsError, match=f"`{first}` is missing"):
        ferroflow.Weights("rill", {name: array for name, array in state.items() if name != first})
    with pytest.raises(ferroflow.WeightsError, match="not finite"):
        ferroflow.Weights("rill", state | {first: np.full_like(state[first], np.nan)})
    with pytest.raises(ferroflow.WeightsError, match="`more` is not a parameter"):
        ferroflow.Weights("rill", state | {"more": np.zeros(3)})
    with pytest.raises(ferroflow.NetworkError, match="there is no network"):
        ferroflow.Weights("thrill", state)
    with pytest.raises(ferroflow.NetworkError):
        ferroflow.Weights("rill", state, options={"iterations": "many"})
    with pytest.raises(ValueError, match="written as .safetensors"):
        ferroflow.load_weights().save(tmp_path / "w.pth")
    with pytest.raises(ferroflow.WeightsError, match="pwcnet has no built-in weights"):
        ferroflow.load_weights("pwcnet")
    with pytest.raises(ferroflow.WeightsError, match="holds weights of rill, not of pwcnet"):
        path = tmp_path / "w.safetensors"
        ferroflow.load_weights().save(path)
        ferroflow.Estimator("pwcnet", weights=path)
    with pytest.raises(ValueError, match="come with Weights"):
        ferroflow.Estimator(ferroflow.load_weights(), options={"iterations": 2})
    with pytest.raises(ferroflow.WeightsError):
        ferroflow.import_weights(tmp_path / "none.pth")


def test_a_checkpoint_of_pytorch_is_imported(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    weights = ferroflow.load_weights()
    state = {name: torch.from_numpy(array) for name, array in weights.state_dict().items()}
    path = tmp_path / "rill.pth.tar"
    torch.save({"epoch": 3, "state_dict": state}, path)
    imported = ferroflow.import_weights(path, licence="of a test")
    assert imported.model == "rill" and imported.provenance["license"] == "of a test"
    assert all(np.array_equal(array, state[name].numpy()) for name, array in imported.state_dict().items())
    flow, expected = (ferroflow.Estimator(w)(waves(64, 96), waves(64, 96, 2)) for w in (path, weights))
    assert np.array_equal(flow, expected)


def test_onnx(tmp_path: Path) -> None:
    path = tmp_path / "rill.onnx"
    ferroflow.export_onnx(path, size=(64, 128))
    assert b"frame1" in path.read_bytes()
    ferroflow.export_onnx(path, ferroflow.load_weights(), opset=16, half=True, batch=None)
    with pytest.raises(ValueError, match="takes multiples of"):
        ferroflow.export_onnx(path, size=(65, 96))
    with pytest.raises(ferroflow.NetworkError, match="operator set 5"):
        ferroflow.export_onnx(path, opset=5)
    with pytest.raises(ferroflow.FileError):
        ferroflow.export_onnx(tmp_path / "nowhere" / "rill.onnx")


def test_models() -> None:
    models = ferroflow.models()
    assert models["rill"]["builtin"] and not models["pwcnet"]["builtin"]
    assert models["pwcnet"]["parameters"] == 9_374_340 and models["pwcnet"]["stride"] == 64
    assert "variant" in models["flownet2"]["options"] and ferroflow.devices() == ["cpu"]
