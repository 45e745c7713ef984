"""Features of pytorch-fid's own network, for weights and images that both sides compute by formula.

    pip install pytorch-fid torch torchvision
    python make.py

writes beside itself: features.f32 (three images' features, little-endian), and legacy.pth and zip.pth, two small files of
torch.save. Seen with pytorch-fid 0.3.0, torch 2.5.1, torchvision 0.20.1 on a CPU.
"""
from pathlib import Path

import numpy as np
import pytorch_fid.inception
import torch

here = Path(__file__).parent


def mixed(values):
    """The last steps of MurmurHash3: uint32 to uint32."""
    values = values.astype(np.uint32)
    values ^= values >> np.uint32(16)
    values *= np.uint32(0x85EBCA6B)
    values ^= values >> np.uint32(13)
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> np.uint32(16)
    return values


def seed(name):
    """FNV-1a."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return np.uint32(value)


def tensor(name, shape):
    count = int(np.prod(shape))
    uniform = mixed(seed(name) + np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9)) / 2.0**32
    if name.endswith("conv.weight"):
        values = (2 * uniform - 1) * np.sqrt(6 / np.prod(shape[1:]))
    elif name.endswith("bn.weight"):
        values = 0.8 + 0.4 * uniform
    elif name.endswith("running_var"):
        values = 0.5 + uniform
    else:
        values = 0.2 * (uniform - 0.5)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def image(number, height, width):
    channel, y, x = np.meshgrid(np.arange(3), np.arange(height), np.arange(width), indexing="ij")
    place = (channel * height + y) * width + x
    noise = mixed(np.uint32(number) + place.astype(np.uint32) * np.uint32(0x9E3779B9)) & 63
    levels = (5 * x + 3 * y + 60 * channel + 40 * number + noise) % 256
    return torch.from_numpy((levels / np.float32(255)).astype(np.float32))[None]


class Names:
    """Stands in for the published file: a tensor for whatever name the network has."""

    def __init__(self):
        import torchvision

        network = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
        module = pytorch_fid.inception
        network.Mixed_5b = module.FIDInceptionA(192, pool_features=32)
        network.Mixed_5c = module.FIDInceptionA(256, pool_features=64)
        network.Mixed_5d = module.FIDInceptionA(288, pool_features=64)
        network.Mixed_6b = module.FIDInceptionC(768, channels_7x7=128)
        network.Mixed_6c = module.FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6d = module.FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6e = module.FIDInceptionC(768, channels_7x7=192)
        network.Mixed_7b = module.FIDInceptionE_1(1280)
        network.Mixed_7c = module.FIDInceptionE_2(2048)
        self.shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}

    def state(self):
        return {
            name: torch.zeros(shape, dtype=torch.int64) if name.endswith("num_batches_tracked") else tensor(name, shape)
            for name, shape in self.shapes.items()
        }


def network():
    state = Names().state()
    pytorch_fid.inception.load_state_dict_from_url = lambda *args, **kwargs: state
    return pytorch_fid.inception.InceptionV3([3]).eval()


if __name__ == "__main__":
    inception = network()
    with torch.no_grad():
        features = [
            inception(image(*which))[0].flatten().numpy() for which in [(0, 32, 32), (1, 32, 32), (2, 75, 41)]
        ]
    np.stack(features).astype("<f4").tofile(here / "features.f32")
    small = {
        "a.conv.weight": tensor("a.conv.weight", (2, 3, 1, 1)),
        # Every other value of a larger tensor: its strides are not those of its shape.
        "a.bn.bias": tensor("a.bn.bias", (8,))[::2],
        "a.bn.num_batches_tracked": torch.tensor(7),
    }
    torch.save(small, here / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(small, here / "zip.pth")
