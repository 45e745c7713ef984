"""Running statistics of PyTorch's batch norms after three batches, the last of two values a channel: the constants of the test
`running_statistics_are_pytorchs` in src/norm.rs.

usage: python running_statistics.py        (needs PyTorch)
"""
import math

import torch


def batch(shape, start):
    count = math.prod(shape)
    return ((torch.arange(count, dtype=torch.float64) * 7 + start) % 11 - 5).reshape(shape) / 4


CASES = {
    "dense": (torch.nn.BatchNorm1d, 3, [(5, 3), (4, 3), (2, 3)]),
    "convolution": (torch.nn.BatchNorm2d, 2, [(3, 2, 2, 2), (2, 2, 1, 3), (2, 2, 1, 1)]),
}
print("PyTorch", torch.__version__)
for name, (kind, channels, shapes) in CASES.items():
    norm = kind(channels, eps=1e-3, momentum=0.25, dtype=torch.float64)
    for start, shape in enumerate(shapes):
        norm(batch(shape, start))
    print(name, norm.running_mean.tolist(), norm.running_var.tolist())
