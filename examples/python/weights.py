"""Weights as arrays of NumPy: what a network holds, changed, saved and used."""

from pathlib import Path

import numpy as np

import ferroflow

weights = ferroflow.load_weights()  # Or a file: of this project, PyTorch, TensorFlow, MindSpore.
print(weights, weights.provenance.get("license"))
state = weights.state_dict()
for name, array in list(state.items())[:3]:
    print(f"{name}: {array.shape}, standard deviation {array.std():.3f}")

# Rounded to 8 significant bits: what would the network lose?
rounded = {name: (array.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, array in state.items()}
coarse = ferroflow.Weights(weights.model, rounded, options=weights.options, provenance=weights.provenance)
frames = [ferroflow.read_image(Path(__file__).parents[1] / f"bunny{i}.jpg") for i in (1, 2)]
flow, other = (ferroflow.Estimator(w)(*frames) for w in (weights, coarse))
print(f"the flows differ by {np.linalg.norm(flow - other, axis=-1).mean():.3f} px on average")

coarse.save("coarse.safetensors", half=True)
ferroflow.export_onnx("rill.onnx", weights, size=(384, 512))
