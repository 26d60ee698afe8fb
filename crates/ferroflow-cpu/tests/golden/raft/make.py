"""Writes the golden files beside it: what the references of RAFT, SEA-RAFT and NeuFlow v2 compute from formula weights.

    pip install torch torchvision
    pip install --no-deps ptlflow==0.4.2
    python make.py FOLDER

FOLDER holds `formula.py`, the formula of weights and images (Ferroflow's own is `ferroflow_net::weights::formula`). RAFT is
torchvision's; its parameters have Princeton's names here, so that the table of names is proved too. SEA-RAFT and NeuFlow are ptlflow's
copies of their authors' code, of which only the networks are imported: what else its package asks for is replaced by empty modules.

`X@everyK` holds elements 0, K, 2K, ... of the flat array X. `flowI` is the flow after I iterations, in pixels, in double
precision: ours has only its own rounding to answer for. `grad/NAME` is the gradient of the loss, also in double precision.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import re
import sys
import types
from unittest.mock import MagicMock

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.models.optical_flow.raft as torchvision_raft
from torchvision.models.optical_flow import raft_large, raft_small

sys.path.insert(0, sys.argv[1])
import formula  # noqa: E402

SEED = "ferroflow-golden"
HERE = os.path.dirname(os.path.abspath(__file__))
# With these factors on the formula's weights, flows are some pixels long, and 12 iterations do not multiply roundings.
GAINS = {
    "raft": {"update_block.flow_head.conv2.weight": 0.1},
    "raft-small": {"update_block.flow_head.conv2.weight": 0.1},
    "sea-raft-s": {
        "flow_head.2.weight": 0.005,
        "update_block.refine.0.final.weight": 0.5,
        "update_block.refine.1.final.weight": 0.5,
    },
}

# Its encoders are deeper, and batch norm with the formula's statistics normalises nothing.
GAINS["sea-raft-m"] = {**GAINS["sea-raft-s"], "fnet.final_conv.weight": 0.01, "init_conv.weight": 0.005}

GAINS["neuflow-v2"] = {"refine_s16.conv3.weight": 0.3, "refine_s8.conv3.weight": 0.1}

# torchvision's grid of coordinates is of single precision whatever the rest.
single_grid = torchvision_raft.make_coords_grid
torchvision_raft.make_coords_grid = lambda *size: single_grid(*size).to(torch.get_default_dtype())


def princeton(name, small):
    """Princeton's name of a parameter of torchvision's RAFT."""
    steps = [
        (r"^feature_encoder\.", "fnet."),
        (r"^context_encoder\.", "cnet."),
        (r"^(.net)\.conv\.", r"\1.conv2."),
        (r"^(.net)\.convnormrelu\.0\.", r"\1.conv1."),
        (r"^(.net)\.convnormrelu\.1\.", r"\1.norm1."),
        (r"\.convnormrelu(\d)\.0\.", r".conv\1."),
        (r"\.convnormrelu(\d)\.1\.", r".norm\1."),
        (r"\.motion_encoder\.convcorr(\d)\.0\.", r".encoder.convc\1."),
        (r"\.motion_encoder\.convflow(\d)\.0\.", r".encoder.convf\1."),
        (r"\.motion_encoder\.conv\.0\.", ".encoder.conv."),
        (r"\.recurrent_block\.convgru(\d)\.conv(.)\.", r".gru.conv\2." if small else r".gru.conv\2\1."),
        (r"^mask_predictor\.convrelu\.0\.", "update_block.mask.0."),
        (r"^mask_predictor\.conv\.", "update_block.mask.2."),
    ]
    for pattern, replacement in steps:
        name = re.sub(pattern, replacement, name)
    return name


def load(model, gains, rename=lambda name: name):
    """Formula weights, by the canonical names."""
    norms = {n for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, (torch.nn.BatchNorm2d, torch.nn.LayerNorm))}
    norms |= {n for n, m in model.named_modules(remove_duplicate=False) if type(m).__name__ == "LayerNorm"}
    with torch.no_grad():
        for name, value in model.state_dict().items():
            layer, _, last = name.rpartition(".")
            if last == "num_batches_tracked" or re.search(r"\.(norm3|bn3)\.", name) and "downsample" not in name:
                continue  # A counter; a second name of what is in `downsample`.
            if last == "running_var" or (layer in norms and last == "weight") or last == "gamma":
                kind = "bn_weight"
            elif last == "running_mean" or layer in norms:
                kind = "bn_bias"
            else:
                kind = "bias" if last == "bias" else "conv_oihw"
            shape = list(value.shape) + [1, 1] * (kind == "conv_oihw" and value.dim() == 2)
            name = rename(name)
            scale, offset = formula.spread(kind, shape)
            value.copy_(torch.from_numpy(formula.tensor(SEED, name, shape, scale * gains.get(name, 1.0), offset)).view_as(value))
    return model


def frames(names, height, width):
    """Two batches `[N, 3, H, W]` of RGB 0..255, and the true flow `[N, 2, H, W]`."""
    pairs = [formula.image_pair(SEED, "image/" + name, height, width) for name in names]
    stacked = [torch.from_numpy(np.stack([pair[i] for pair in pairs]).transpose(0, 3, 1, 2).astype(np.float64)) for i in (0, 1)]
    flow = [formula.flow_field(SEED, "image/" + name, height, width) for name in names]
    return stacked[0], stacked[1], torch.from_numpy(np.stack(flow).astype(np.float64))


def pad(frame):
    """To multiples of 8, the frame in the middle, its border repeated (RAFT's InputPadder for Sintel)."""
    h, w = -frame.shape[2] % 8, -frame.shape[3] % 8
    return F.pad(frame, [w // 2, w - w // 2, h // 2, h - h // 2], mode="replicate")


def sampled(name, value, count):
    value = value.detach().double().contiguous().view(-1)
    every = max(1, value.numel() // count)
    return f"{name}@every{every}", value[::every].float().numpy()


def write(file, tensors, **metadata):
    path = os.path.join(HERE, file + ".safetensors")
    formula.write_safetensors(path, dict(tensors), {"seed": SEED, **metadata})
    print(file, os.path.getsize(path), "bytes")


def signed(frame):
    return frame / 255 * 2 - 1


def keep(kept, name, value):
    """The first value of this name; a hook that returned it would put it in the place of the module's own."""
    kept.setdefault(name, value)


def report(name, single, double):
    """How far single precision leads from double."""
    difference = (single.double() - double).abs()
    print(f"{name}: |flow| {double.abs().mean():.3f} mean {double.abs().max():.3f} max; f32 off by {difference.mean():.2e} mean", flush=True)


# The frames of the files: a batch of two, and one of an odd size.
SETS = {"a": (["raft0", "raft1"], 128, 160), "odd": (["raft2"], 131, 165)}


def raft(name, build, small):
    model = load(build().eval(), GAINS[name], lambda n: princeton(n, small))
    for label, (pairs, height, width) in SETS.items():
        one, two, _ = frames(pairs, height, width)
        one, two = signed(pad(one)), signed(pad(two))
        model.float()
        torch.set_default_dtype(torch.float32)
        with torch.no_grad():
            single = model(one.float(), two.float(), num_flow_updates=32)
        model.double()
        torch.set_default_dtype(torch.float64)
        kept = {}
        hooks = [
            model.feature_encoder.register_forward_hook(lambda m, i, o: keep(kept, "fmaps", o)),
            model.context_encoder.register_forward_hook(lambda m, i, o: keep(kept, "context", o)),
        ]
        looked_up = []
        hooks.append(model.update_block.motion_encoder.register_forward_hook(lambda m, i, o: looked_up.append(i[1])))
        with torch.no_grad():
            flows = model(one, two, num_flow_updates=32)
        [hook.remove() for hook in hooks]
        out = [sampled("fmaps", kept["fmaps"], 500), sampled("context", kept["context"], 500)]
        out += [sampled(f"corr{i}", looked_up[i - 1], 700) for i in (1, 2, 12)]
        for i in (1, 2, 4, 12, 32):
            report(f"{name} {label} {i}", single[i - 1], flows[i - 1])
            out.append(sampled(f"flow{i}", flows[i - 1], 1500))
        write(f"{name}_{label}", out, implementation="torchvision 0.29.2, float64", pairs=" ".join(pairs), height=height, width=width)
    return model


def sequence_loss(flows, truth, valid, gamma, largest=400.0):
    """RAFT's train.py."""
    valid = (valid >= 0.5) & (truth.pow(2).sum(1).sqrt() < largest)
    return sum(gamma ** (len(flows) - i - 1) * (valid[:, None] * (flow - truth).abs()).mean() for i, flow in enumerate(flows))


def training(name, model, rename):
    """One step: the loss after three iterations and its gradients."""
    one, two, truth = frames(["raft0", "raft1"], 128, 128)
    valid = torch.ones(2, 128, 128, dtype=torch.float64)
    valid[0, 10:50, 20:70] = 0
    truth[1, 0, 100:, 100:] = 450.0
    model.double().train()
    flows = model(signed(one), signed(two), num_flow_updates=3)
    loss = sequence_loss(flows, truth, valid, 0.8)
    loss.backward()
    out = [("loss", loss.detach().view(1).numpy()), sampled("flow3", flows[-1], 300)]
    for parameter, value in model.named_parameters():
        out.append(sampled("grad/" + rename(parameter), value.grad, 12))
    write(f"{name}_train", out, implementation="torchvision 0.29.2, float64", gamma=0.8)


def import_ptlflow():
    """ptlflow's modules of the network, without what its package needs beside."""

    class Lightning(torch.nn.Module):
        def save_hyperparameters(self, *_, **__):
            pass

    class Empty(types.ModuleType):
        __path__ = []

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return Lightning if name == "LightningModule" else MagicMock(name=name)

    class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name, path, target=None):
            try:
                missing = "." not in name and all(
                    f is self or f.find_spec(name, None) is None for f in sys.meta_path if hasattr(f, "find_spec")
                )
            except Exception:
                missing = False
            known = name.split(".")[0] in self.empty
            if missing or known:
                self.empty.add(name.split(".")[0])
                return importlib.machinery.ModuleSpec(name, self, is_package=True)
            return None

        empty = set()

        def create_module(self, spec):
            return Empty(spec.name)

        def exec_module(self, module):
            pass

    sys.meta_path.append(Finder())
    root = importlib.util.find_spec("ptlflow").submodule_search_locations[0]
    for name, path in [("ptlflow", root), ("ptlflow.models", os.path.join(root, "models"))]:
        package = types.ModuleType(name)
        package.__path__ = [path]
        sys.modules[name] = package
    import ptlflow.models.base_model.base_model as base

    base.FlowMetrics = lambda *_, **__: torch.nn.Identity()
    from ptlflow.models.neuflow2.neuflow2 import NeuFlow2
    from ptlflow.models.raft.raft import RAFT, RAFTSmall
    from ptlflow.models.sea_raft.sea_raft import SEARAFT_M, SEARAFT_S

    return RAFT, RAFTSmall, SEARAFT_S, SEARAFT_M, NeuFlow2


def sea_raft(name, build):
    model = load(build(block_dims=[64, 128, 256]).eval(), GAINS[name])
    for label, (pairs, height, width) in SETS.items():
        one, two, _ = frames(pairs, height, width)
        images = torch.stack([one, two], 1).flip(2).contiguous() / 255  # ptlflow reads BGR and pads by itself.
        kept, flows, single = {}, {}, {}
        for iterations in (1, 4, 12):
            model.iters = iterations
            with torch.no_grad():
                single[iterations] = model.float()({"images": images.float()})["flows"][:, 0]
                hook = model.init_conv.register_forward_hook(lambda m, i, o: keep(kept, "context", o))
                flows[iterations] = model.double()({"images": images})["flows"][:, 0]
                hook.remove()
            report(f"{name} {label} {iterations}", single[iterations], flows[iterations])
        kept["context"] = kept["context"].double()
        out = [sampled("context", kept["context"], 500)] + [sampled(f"flow{i}", flow, 1500) for i, flow in flows.items()]
        write(f"{name}_{label}", out, implementation="ptlflow 0.4.2, float64", pairs=" ".join(pairs), height=height, width=width)
    return model


def laplace_training(name, model):
    """One step of SEA-RAFT: the mixture of Laplace distributions after two iterations, and its gradients.

    Batch norm keeps its running statistics: the reference takes those of each frame by itself, ours those of both together.
    """
    one, two, truth = frames(["raft0", "raft1"], 128, 128)
    valid = torch.ones(2, 128, 128, dtype=torch.float64)
    valid[0, 10:50, 20:70] = 0
    truth[1, 0, 100:, 100:] = 450.0
    model.double().train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    model.iters = 2
    images = torch.stack([one, two], 1).flip(2).contiguous() / 255
    inputs = {"images": images, "flows": truth[:, None], "valids": valid[:, None, None]}
    outputs = model(inputs)
    loss = model.loss_fn(outputs, inputs)
    loss.backward()
    out = [("loss", loss.detach().view(1).numpy()), sampled("flow2", outputs["flow_preds"][-1], 300)]
    for parameter, value in model.named_parameters():
        if not re.search(r"\.bn3\.", parameter):
            out.append(sampled("grad/" + parameter, value.grad, 8))
    write(f"{name}_train", out, implementation="ptlflow 0.4.2, float64", gamma=0.8)


def neuflow(build):
    model = load(build().eval(), GAINS["neuflow-v2"])
    first_init = model.init_bhwd

    def init(*size):
        """Its grids are of single precision whatever the rest."""
        first_init(*size)
        for owner in [model, *model.modules(), model.matching_s16, model.corr_block_s16, model.corr_block_s8]:
            for name, value in list(vars(owner).items()):
                if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
                    setattr(owner, name, value.to(torch.get_default_dtype()))

    model.init_bhwd = init
    pairs, height, width = ["neuflow0"], 128, 160
    one, two, _ = frames(pairs, height, width)
    images = torch.stack([one, two], 1).flip(2).contiguous() / 255  # ptlflow reads BGR, and so does the network.
    kept, flows = {}, {}
    for iterations in (1, 2, 8):
        model.iters_s8 = iterations
        with torch.no_grad():
            torch.set_default_dtype(torch.float32)
            single = model.float()({"images": images.float()})["flows"][:, 0]
            torch.set_default_dtype(torch.float64)
            hooks = [
                model.cross_attn_s16.register_forward_hook(lambda m, i, o: keep(kept, "attended", o)),
                model.refine_s16.register_forward_hook(lambda m, i, o: keep(kept, "matched", i[3])),
                model.merge_s8.register_forward_hook(lambda m, i, o: keep(kept, "merged", o)),
            ]
            flows[iterations] = model.double()({"images": images})["flows"][:, 0]
            [hook.remove() for hook in hooks]
        report(f"neuflow-v2 {iterations}", single, flows[iterations])
    out = [sampled(name, value, 500) for name, value in kept.items()]
    out += [sampled(f"flow{i}", flow, 1500) for i, flow in flows.items()]
    write("neuflow-v2_a", out, implementation="ptlflow 0.4.2, float64", pairs=" ".join(pairs), height=height, width=width)
    return model


def tables(models):
    """Names and shapes of the files that people download, for the tests of what they are recognised by."""
    rows = {label: [[name, list(value.shape)] for name, value in model.state_dict().items()] for label, model in models.items()}
    path = os.path.join(HERE, "../../../../ferroflow-net/src/weights/names/raft.json")
    text = [f"{json.dumps(label)}: [\n" + ",\n".join(map(json.dumps, table)) + "\n]" for label, table in rows.items()]
    with open(path, "w") as file:
        file.write("{\n" + ",\n".join(text) + "\n}\n")


def main():
    torch.set_num_threads(2)
    large = raft("raft", raft_large, False)
    small = raft("raft-small", raft_small, True)
    training("raft-small", small, lambda n: princeton(n, True))
    princetons_raft, princetons_small, small_sea, medium_sea, neuflow2 = import_ptlflow()
    models = {"torchvision raft_large": large, "torchvision raft_small": small}
    models |= {"Princeton raft": princetons_raft(), "Princeton raft-small": princetons_small()}
    models["SEA-RAFT (S)"] = sea_raft("sea-raft-s", small_sea)
    models["SEA-RAFT (M)"] = sea_raft("sea-raft-m", medium_sea)
    models["NeuFlow v2"] = neuflow(neuflow2)
    tables(models)
    laplace_training("sea-raft-s", models["SEA-RAFT (S)"])


main()
