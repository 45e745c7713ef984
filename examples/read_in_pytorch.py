"""Reads a run's model.safetensors in PyTorch and compares with what the trainer computed on eight test images.

usage: python examples/read_in_pytorch.py RUN_FOLDER        (needs: pip install torch numpy safetensors)
"""
import json, pathlib, sys, torch, torch.nn.functional as F
from safetensors.torch import load_file

run = pathlib.Path(sys.argv[1])
weights, reference = load_file(run / "model.safetensors"), load_file(run / "reference.safetensors")
name = json.loads((run / "config.json").read_text())["activation"]
activation = getattr(torch, name, None) or getattr(F, name)  # silu and gelu are functions of `F` alone

def layer(name, kinds=("weight", "bias")):
    return [weights[f"{name}.{kind}"] for kind in kinds]

def norm(x, name):
    weight, bias, mean, variance = layer(name, ("weight", "bias", "running_mean", "running_var"))
    return F.batch_norm(x, mean, variance, weight, bias, eps=1e-3)

def convolve(x, name, stride=1, up=False):
    if up: return F.conv_transpose2d(x, *layer(name), stride, output_padding=stride - 1)
    return F.conv2d(x, *layer(name), stride, padding=weights[f"{name}.weight"].shape[-1] // 2)

def block(x, name, stride, up):
    h = F.relu(norm(convolve(x, f"{name}.reduce", stride, up), f"{name}.reduce_norm"))
    h = F.relu(norm(convolve(h, f"{name}.spatial"), f"{name}.spatial_norm"))
    h = norm(convolve(h, f"{name}.expand"), f"{name}.expand_norm")
    if f"{name}.shortcut.weight" in weights:
        x = norm(convolve(x, f"{name}.shortcut", stride, up), f"{name}.shortcut_norm")
    return F.relu(h + x)

def stages(x, side, up):
    for stage in range(4):
        names = sorted({key.rsplit(".", 2)[0] for key in weights if key.startswith(f"{side}.stages.{stage}.")})
        for index, name in enumerate(names):
            first = index == 0
            x = block(x, name, 2 if first and stage > 0 else 1, up and first)
    return x

images = reference["images"]
features = stages(images, "encoder", up=False).permute(0, 2, 3, 1).flatten(0, 2)
features = activation(norm(F.linear(features, *layer("encoder.dense")), "encoder.dense_norm")).reshape(len(images), -1)
mean, log_variance = F.linear(features, *layer("encoder.mean")), F.linear(features, *layer("encoder.log_variance"))
features = activation(norm(F.linear(mean, *layer("decoder.dense")), "decoder.dense_norm"))
maps = stages(features.reshape(len(images), 4, 4, -1).permute(0, 3, 1, 2), "decoder", up=True)
logits = F.conv_transpose2d(maps, *layer("decoder.output"))

for name, value in dict(mean=mean, log_variance=log_variance, logits=logits).items():
    difference = (value - reference[name]).abs().max().item()
    print(f"{name}: largest difference {difference:.1e}")
    assert difference < 1e-4, name
