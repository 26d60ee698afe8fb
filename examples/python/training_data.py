"""Endless training data for PyTorch, with exact flow: made by as many workers as there are, each other pairs."""

import torch

import ferroflow


class Pairs(torch.utils.data.IterableDataset):
    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        pairs = ferroflow.synth("chairs", seed=1, size=(320, 448))
        return iter(pairs if worker is None else pairs[worker.id :: worker.num_workers])


if __name__ == "__main__":
    loader = torch.utils.data.DataLoader(Pairs(), batch_size=4, num_workers=2)
    for step, (frame1, frame2, flow, valid) in zip(range(3), loader):
        # As networks of PyTorch want them: [N, 3, H, W] in floats, [N, 2, H, W] in pixels.
        frame1, frame2 = (frame.permute(0, 3, 1, 2).float() for frame in (frame1, frame2))
        flow = flow.permute(0, 3, 1, 2)
        print(f"batch {step}: frames {tuple(frame1.shape)}, flow {tuple(flow.shape)}, up to {flow.norm(dim=1).max():.0f} px")
