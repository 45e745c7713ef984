"""One training step of the same model in PyTorch, for timing beside `cargo xtask bench-step`. Prints one JSON line.

usage: python benches/torch_step.py --depth 28 --widths 8,16,32,64 --intermediate 128 --latent 64 --batch 25
       [--steps 10] [--warmup 3] [--threads 2] [--device cpu|cuda] [--layout channels_last|contiguous] [--compile [--mode reduce-overhead]] [--bf16] [--forward-only]
needs: pip install torch numpy
"""
import argparse, json, resource, statistics, time
import torch, torch.nn.functional as F
from torch import nn

IDENTITY_BLOCKS = {28: (0, 0, 0, 0), 40: (0, 1, 1, 0), 70: (1, 2, 3, 1), 100: (2, 3, 5, 2)}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=28, choices=IDENTITY_BLOCKS)
    parser.add_argument("--widths", default="8,16,32,64", type=lambda text: [int(width) for width in text.split(",")])
    for name, default in dict(intermediate=128, latent=64, batch=25, steps=10, warmup=3, threads=2).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layout", default="channels_last", choices=["channels_last", "contiguous"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--mode", help="of torch.compile; reduce-overhead replays CUDA graphs")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--forward-only", action="store_true", help="evaluation: running statistics, no gradients")
    return parser.parse_args()


def norm(kind, channels):
    return kind(channels, eps=1e-3, momentum=0.01)


def pointwise(channels_in, channels_out, stride, up):
    if up:
        return nn.ConvTranspose2d(channels_in, channels_out, 1, stride, output_padding=stride - 1)
    return nn.Conv2d(channels_in, channels_out, 1, stride)


class Bottleneck(nn.Module):
    def __init__(self, channels_in, width, stride=1, up=False):
        super().__init__()
        channels = 4 * width
        self.path = nn.Sequential(
            pointwise(channels_in, width, stride, up), norm(nn.BatchNorm2d, width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), norm(nn.BatchNorm2d, width), nn.ReLU(),
            nn.Conv2d(width, channels, 1), norm(nn.BatchNorm2d, channels))
        projects = stride != 1 or channels_in != channels
        self.shortcut = nn.Sequential(pointwise(channels_in, channels, stride, up),
                                      norm(nn.BatchNorm2d, channels)) if projects else nn.Identity()

    def forward(self, x):
        return F.relu(self.path(x) + self.shortcut(x))


def stages(channels, widths, identity_blocks, up):
    blocks = []
    for stage, width in enumerate(widths):
        blocks.append(Bottleneck(channels, width, 1 if stage == 0 else 2, up))
        channels = 4 * width
        blocks += [Bottleneck(channels, width) for _ in range(identity_blocks[stage])]
    return nn.Sequential(*blocks), channels


class Vae(nn.Module):
    def __init__(self, options):
        super().__init__()
        blocks, size = IDENTITY_BLOCKS[options.depth], options.intermediate
        self.encoder, channels = stages(3, options.widths, blocks, up=False)
        self.encoder_dense, self.encoder_norm = nn.Linear(channels, size), norm(nn.BatchNorm1d, size)
        self.mean, self.log_variance = nn.Linear(16 * size, options.latent), nn.Linear(16 * size, options.latent)
        self.decoder_dense, self.decoder_norm = nn.Linear(options.latent, size), norm(nn.BatchNorm1d, size)
        self.decoder, channels = stages(size // 16, options.widths, blocks, up=True)
        self.output = nn.ConvTranspose2d(channels, 3, 1)

    def forward(self, images):
        count = len(images)
        h = self.encoder(images).permute(0, 2, 3, 1).reshape(16 * count, -1)
        h = torch.sigmoid(self.encoder_norm(self.encoder_dense(h))).reshape(count, -1)
        mean, log_variance = self.mean(h).float(), self.log_variance(h).float()
        latent = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        h = torch.sigmoid(self.decoder_norm(self.decoder_dense(latent)))
        logits = self.output(self.decoder(h.reshape(count, 4, 4, -1).permute(0, 3, 1, 2))).float()
        cross_entropy = F.binary_cross_entropy_with_logits(logits, images, reduction="sum")
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
        penalty = sum(weight * (head.weight.square().sum() + head.bias.square().sum())
                      for weight, head in ((0.01, self.mean), (0.1, self.log_variance)))
        return (cross_entropy + kl) / count + penalty


def main():
    options = arguments()
    torch.manual_seed(1)
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    layout = getattr(torch, options.layout + ("_format" if options.layout == "contiguous" else ""))
    model = Vae(options).to(options.device).to(memory_format=layout)
    model.train(not options.forward_only)
    forward = torch.compile(model, mode=options.mode) if options.compile else model
    adam = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-7)
    images = torch.rand(options.batch, 3, 32, 32, device=options.device).to(memory_format=layout)
    kind, seconds = options.device.split(":")[0], []
    for _ in range(options.warmup + options.steps):
        if kind == "cuda": torch.cuda.synchronize()
        began = time.perf_counter()
        with torch.autocast(kind, torch.bfloat16, enabled=options.bf16), torch.set_grad_enabled(not options.forward_only):
            loss = forward(images)
        if not options.forward_only:
            adam.zero_grad()
            loss.backward()
            adam.step()
        loss.item()
        if kind == "cuda": torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    seconds = seconds[options.warmup:]
    peak = torch.cuda.max_memory_allocated() if kind == "cuda" else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(dict(system="pytorch", version=torch.__version__, parameters=sum(p.numel() for p in model.parameters()),
                          seconds_per_step=statistics.median(seconds), fastest=min(seconds), slowest=max(seconds),
                          images_per_second=options.batch / statistics.median(seconds), peak_bytes=peak)))


main()
