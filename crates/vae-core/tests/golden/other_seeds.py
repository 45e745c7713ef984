"""Makes the golden files of blocks, losses and both autoencoders with another seed, in float64 by PyTorch, and shares no code with the project.

other_seeds.py OUT SEED: the files, to take the place of those beside this one and of resnet-blocks' tests/golden.
other_seeds.py --check DIR: recomputes every output that the files in DIR hold from the inputs that they hold, and prints the largest distances.
Needs torch and safetensors.
"""
import sys, math, pathlib, json
import torch, torch.nn.functional as F
from safetensors.torch import save_file, load_file
torch.set_default_dtype(torch.float64); torch.set_num_threads(1)
EPS, MOM = 1e-3, 0.01
r32 = lambda t: t.float().double()

# ---- one functional model; p: dict of tensors; stats: dict that receives new running statistics in training
def bn(p, n, x, train, stats):
    dims = [0] + list(range(2, x.dim())); sh = [1, -1] + [1] * (x.dim() - 2)
    if train:
        m = x.mean(dims); v = ((x - m.reshape(sh)) ** 2).mean(dims)
        stats[n + '.running_mean'] = ((1 - MOM) * p[n + '.running_mean'] + MOM * m).detach()
        stats[n + '.running_var'] = ((1 - MOM) * p[n + '.running_var'] + MOM * v).detach()
    else: m, v = p[n + '.running_mean'], p[n + '.running_var']
    return (x - m.reshape(sh)) / torch.sqrt(v + EPS).reshape(sh) * p[n + '.weight'].reshape(sh) + p[n + '.bias'].reshape(sh)

def pointwise(p, n, x, stride, transposed):
    w, b = p[n + '.weight'], p[n + '.bias']
    if not transposed: return torch.einsum('oi,nihw->nohw', w[:, :, 0, 0], x[:, :, ::stride, ::stride]) + b.reshape(1, -1, 1, 1)
    y = torch.einsum('io,nihw->nohw', w[:, :, 0, 0], x); N, C, H, W = y.shape
    if stride > 1:
        z = torch.zeros(N, C, H * stride, W * stride, dtype=y.dtype); z[:, :, ::stride, ::stride] = y; y = z
    return y + b.reshape(1, -1, 1, 1)

def conv3(p, n, x, stride=1, transposed=False):
    w, b = p[n + '.weight'], p[n + '.bias']
    if transposed:   # padding 1, output exactly s times the input
        return F.conv_transpose2d(x, w, b, stride=stride, padding=1, output_padding=stride - 1)
    return F.conv2d(x, w, b, stride=stride, padding=1)

RELU = F.relu
def bottleneck(p, q, x, stride, transposed, residual, train, stats):
    has = (q + 'shortcut.weight') in p
    tr = transposed and has_transposed(p, q)
    h = RELU(bn(p, q + 'reduce_norm', pointwise(p, q + 'reduce', x, stride, tr), train, stats))
    h = RELU(bn(p, q + 'spatial_norm', conv3(p, q + 'spatial', h), train, stats))
    h = bn(p, q + 'expand_norm', pointwise(p, q + 'expand', h, 1, False), train, stats)
    if residual: h = h + (bn(p, q + 'shortcut_norm', pointwise(p, q + 'shortcut', x, stride, tr), train, stats) if has else x)
    return RELU(h)
def has_transposed(p, q): return p.get(q + '__transposed', True)

def basic(p, q, x, stride, transposed, residual, train, stats):
    has = (q + 'shortcut.weight') in p
    h = RELU(bn(p, q + 'first_norm', conv3(p, q + 'first', x, stride, transposed), train, stats))
    h = bn(p, q + 'second_norm', conv3(p, q + 'second', h), train, stats)
    if residual: h = h + (bn(p, q + 'shortcut_norm', pointwise(p, q + 'shortcut', x, stride, transposed), train, stats) if has else x)
    return RELU(h)

#         file: (kind, in, width, stride, transposed, shortcut conv?, residual, side)
BLOCKS = {
 'basic_downsample': ('basic', 6, 8, 2, False, True, True, 6),
 'basic_identity': ('basic', 8, 8, 1, False, False, True, 6),
 'basic_plain_downsample': ('basic', 6, 8, 2, False, False, False, 6),
 'basic_upsample': ('basic', 6, 8, 2, True, True, True, 3),
 'bottleneck_downsample': ('bottleneck', 12, 4, 2, False, True, True, 6),
 'bottleneck_identity': ('bottleneck', 16, 4, 1, False, False, True, 6),
 'bottleneck_plain_identity': ('bottleneck', 16, 4, 1, False, False, False, 6),
 'bottleneck_plain_upsample': ('bottleneck', 12, 4, 2, True, False, False, 3),
 'bottleneck_projection': ('bottleneck', 6, 4, 1, False, True, True, 6),
 'bottleneck_transposed_stride1': ('bottleneck', 12, 4, 1, True, True, True, 3),
 'bottleneck_upsample': ('bottleneck', 12, 4, 2, True, True, True, 3)}

def norm_shapes(n, c): return {f'{n}.weight': (c,), f'{n}.bias': (c,), f'{n}.running_mean': (c,), f'{n}.running_var': (c,)}
def block_shapes(kind, i, w, transposed, shortcut, q=''):
    s = {}; o = 4 * w if kind == 'bottleneck' else w
    c = lambda n, a, b, k, t: s.update({f'{q}{n}.weight': ((a, b, k, k) if t else (b, a, k, k)), f'{q}{n}.bias': (b,)})
    if kind == 'basic':
        c('first', i, w, 3, transposed); s.update(norm_shapes(q + 'first_norm', w)); c('second', w, w, 3, False); s.update(norm_shapes(q + 'second_norm', w))
    else:
        c('reduce', i, w, 1, transposed); s.update(norm_shapes(q + 'reduce_norm', w)); c('spatial', w, w, 3, False); s.update(norm_shapes(q + 'spatial_norm', w))
        c('expand', w, o, 1, False); s.update(norm_shapes(q + 'expand_norm', o))
    if shortcut: c('shortcut', i, o, 1, transposed); s.update(norm_shapes(q + 'shortcut_norm', o))
    return s

def draw(shapes, g):
    N = lambda s: torch.randn(s, generator=g); p = {}
    for n, s in shapes.items():
        if 'running_mean' in n: v = 0.1 * N(s)
        elif 'running_var' in n: v = 1 + 0.3 * torch.rand(s, generator=g)
        elif 'norm.weight' in n: v = 1 + 0.2 * N(s)
        elif n == 'encoder.log_variance.bias': v = -0.5 + 0.1 * N(s)
        elif n.endswith('bias'): v = 0.1 * N(s)
        else:
            v = N(s) / math.prod(s[1:]) ** 0.5
            if n in ('encoder.mean.weight', 'encoder.log_variance.weight'): v = 0.2 * v
            if n == 'decoder.output.weight': v = 0.1 * v
        p[n] = r32(v)
    p.update({n: p[n] * 0.5 for n in ('decoder.output.bias',) if n in p})
    return {n: r32(v) for n, v in p.items()}

def trainable(p): return {k: v for k, v in p.items() if 'running' not in k}

def run_block(name, p, x, go):
    kind, i, w, s, t, sc, res, side = BLOCKS[name]; f = basic if kind == 'basic' else bottleneck
    out = {}; stats = {}
    with torch.no_grad(): out['output.eval'] = f(p, '', x, s, t, res, False, {})
    q = {k: (v.clone().requires_grad_(True) if 'running' not in k else v) for k, v in p.items()}; xx = x.clone().requires_grad_(True)
    y = f(q, '', xx, s, t, res, True, stats); (y * go).sum().backward()
    out['output.train'] = y.detach(); out['grad.input'] = xx.grad
    for k, v in trainable(q).items(): out['grad.param.' + k] = v.grad
    for k, v in stats.items(): out['after.' + k] = v
    return out

def make_block(name, g):
    kind, i, w, s, t, sc, res, side = BLOCKS[name]
    p = draw(block_shapes(kind, i, w, t, sc), g); x = r32(torch.randn(4, i, side, side, generator=g))
    side_o = side * s if t else side // s; go = r32(torch.randn(4, 4 * w if kind == 'bottleneck' else w, side_o, side_o, generator=g))
    out = run_block(name, p, x, go); out.update({'param.' + k: v for k, v in p.items()}); out['input'] = x; out['grad.output'] = go
    return out

# ---- autoencoder
WIDTHS, STRIDES, INTER, LATENT = [4, 6, 8, 10], [1, 2, 2, 2], 64, 12
COUNTS = {28: [0, 0, 0, 0], 40: [0, 1, 1, 0]}
def vae_shapes(depth):
    s = {}
    for side, first in (('encoder', 3), ('decoder', INTER // 16)):
        i = first
        if side == 'decoder': s.update({'decoder.dense.weight': (INTER, LATENT), 'decoder.dense.bias': (INTER,)}); s.update(norm_shapes('decoder.dense_norm', INTER))
        for a, m in enumerate(WIDTHS):
            s.update(block_shapes('bottleneck', i, m, side == 'decoder', True, f'{side}.stages.{a}.0.')); i = 4 * m
            for b in range(COUNTS[depth][a]): s.update(block_shapes('bottleneck', i, m, False, False, f'{side}.stages.{a}.{b + 1}.'))
        if side == 'encoder':
            s.update({'encoder.dense.weight': (INTER, i), 'encoder.dense.bias': (INTER,)}); s.update(norm_shapes('encoder.dense_norm', INTER))
            for h in ('mean', 'log_variance'): s.update({f'encoder.{h}.weight': (LATENT, 16 * INTER), f'encoder.{h}.bias': (LATENT,)})
        else: s.update({'decoder.output.weight': (i, 3, 1, 1), 'decoder.output.bias': (3,)})
    return s

def vae(depth, p, images, noise, train, stats, blog=False):
    def stages(side, h):
        for a in range(4):
            h = bottleneck(p, f'{side}.stages.{a}.0.', h, STRIDES[a], side == 'decoder', True, train, stats)
            for b in range(COUNTS[depth][a]): h = bottleneck(p, f'{side}.stages.{a}.{b + 1}.', h, 1, False, True, train, stats)
        return h
    h = stages('encoder', images); n = len(images)
    h = h.permute(0, 2, 3, 1).reshape(n * 16, -1) @ p['encoder.dense.weight'].T + p['encoder.dense.bias']
    h = torch.sigmoid(bn(p, 'encoder.dense_norm', h, train, stats)).reshape(n, -1)
    mean = h @ p['encoder.mean.weight'].T + p['encoder.mean.bias']; lv = h @ p['encoder.log_variance.weight'].T + p['encoder.log_variance.bias']
    z = mean + torch.exp(lv if blog else lv / 2) * noise
    d = z @ p['decoder.dense.weight'].T + p['decoder.dense.bias']
    d = torch.sigmoid(bn(p, 'decoder.dense_norm', d, train, stats)).reshape(n, 4, 4, -1).permute(0, 3, 1, 2)
    logits = pointwise(p, 'decoder.output', stages('decoder', d), 1, True)
    nll = (-F.logsigmoid(-logits) - logits * images).sum((1, 2, 3))
    kl = 0.5 * (torch.exp(lv) + mean ** 2 - 1 - lv).sum(1)
    sq = lambda h: (p[f'encoder.{h}.weight'] ** 2).sum() + (p[f'encoder.{h}.bias'] ** 2).sum()
    l2 = 0.01 * sq('mean') + 0.1 * sq('log_variance')
    return dict(mean=mean, log_variance=lv, z=z, logits=logits, nll=nll, kl=kl, l2=l2.reshape(1), loss=(nll.mean() + kl.mean() + l2).reshape(1))

def run_vae(depth, p, images, noise, steps=20):
    out = {}
    with torch.no_grad():
        for k, v in vae(depth, p, images, noise, False, {}).items(): out['eval.' + k] = v
        o = vae(depth, p, images, noise, False, {}, True); out.update({'blog_eval.' + k: o[k] for k in ('z', 'nll', 'loss')})
    q = {k: (v.clone().requires_grad_(True) if 'running' not in k else v) for k, v in p.items()}; stats = {}
    o = vae(depth, q, images, noise, True, stats); o['loss'].sum().backward()
    out.update({'train.' + k: v.detach() for k, v in o.items()}); out.update({'grad.' + k: v.grad for k, v in trainable(q).items()}); out.update({'after.' + k: v for k, v in stats.items()})
    # Adam by hand
    w = {k: v.clone() for k, v in p.items()}; M = {}; V = {}; curve = []
    for t in range(1, steps + 1):
        q = {k: (v.clone().requires_grad_(True) if 'running' not in k else v) for k, v in w.items()}
        l = vae(depth, q, images, noise, True, {})['loss']; l.sum().backward(); curve.append(float(l.detach()))
        for k, v in trainable(q).items():
            gr = v.grad; M[k] = 0.9 * M.get(k, 0) + 0.1 * gr; V[k] = 0.999 * V.get(k, 0) + 0.001 * gr ** 2
            w[k] = w[k] - 1e-3 * (M[k] / (1 - 0.9 ** t)) / (torch.sqrt(V[k] / (1 - 0.999 ** t)) + 1e-7)
    out['adam_loss_curve'] = torch.tensor(curve)
    return out

def make_vae(depth, g):
    p = draw(vae_shapes(depth), g); images = r32(torch.randint(0, 256, (16, 3, 32, 32), generator=g).double() / 255); noise = r32(torch.randn(16, LATENT, generator=g))
    out = run_vae(depth, p, images, noise); out.update({'param.' + k: v for k, v in p.items()}); out['images'] = images; out['noise'] = noise
    return out

def run_losses(d):
    l, x, m, lv = (d[k] for k in ('bernoulli.logits', 'bernoulli.pixels', 'gauss.mean', 'gauss.log_variance'))
    return {'bernoulli.nll': -F.logsigmoid(-l) - l * x, 'gauss.kl': 0.5 * (torch.exp(lv) + m ** 2 - 1 - lv).sum(1)}
def make_losses(g):
    N = lambda *s: torch.randn(*s, generator=g)
    d = {'bernoulli.logits': torch.cat([15 * N(500), torch.tensor([0, 1e4, -1e4, 60, -60, 88.7, -88.7, 104, -104])]), 'bernoulli.pixels': torch.rand(509, generator=g), 'gauss.mean': 3 * N(64, 8), 'gauss.log_variance': 4 * N(64, 8)}
    d = {k: r32(v) for k, v in d.items()}; return d | run_losses(d)

def save(d, path): save_file({k: v.detach().float().contiguous().clone() for k, v in sorted(d.items())}, str(path))

def make(out, seed, parts=('blocks', 'losses', 'vae')):
    out.mkdir(parents=True, exist_ok=True)
    for n, name in enumerate(BLOCKS):
        if 'blocks' in parts: save(make_block(name, torch.Generator().manual_seed(seed * 100 + n)), out / f'{name}.safetensors')
    if 'losses' in parts: save(make_losses(torch.Generator().manual_seed(seed * 100 + 50)), out / 'losses.safetensors')
    for depth in (28, 40):
        if 'vae' in parts: save(make_vae(depth, torch.Generator().manual_seed(seed * 100 + depth + 32)), out / f'vae_depth{depth}.safetensors')

def check(folder):
    for path in sorted(pathlib.Path(folder).glob('*.safetensors')):
        d = {k: v.double() for k, v in load_file(path).items()}; name = path.stem; p = {k[6:]: v for k, v in d.items() if k.startswith('param.')}
        if name == 'losses': out = run_losses(d); shapes = None
        elif name.startswith('vae'):
            shapes = vae_shapes(int(name[-2:])); out = run_vae(int(name[-2:]), p, d['images'], d['noise'])
        else: b = BLOCKS[name]; shapes = block_shapes(b[0], b[1], b[2], b[4], b[5]); out = run_block(name, p, d['input'], d['grad.output'])
        if shapes is not None: assert {k: tuple(v.shape) for k, v in p.items()} == {k: tuple(v) for k, v in shapes.items()}, name
        stored = {k for k in d if not k.startswith('param.') and k not in ('images', 'noise', 'input', 'grad.output', 'bernoulli.logits', 'bernoulli.pixels', 'gauss.mean', 'gauss.log_variance')}
        assert stored == set(out), (name, stored ^ set(out))
        worst, zero = (0, ''), 0
        for k in stored:
            assert out[k].shape == d[k].shape, k
            if k.startswith('grad') and d[k].norm() < 1e-6: zero = max(zero, float(out[k].abs().max())); continue
            worst = max(worst, (float((out[k] - d[k]).norm() / d[k].norm()), k))
        print(f'{name}: {len(stored)} tensors, worst relative L2 {worst[0]:.1e} ({worst[1]}), zero gradients {zero:.0e}')

if __name__ == '__main__':
    if sys.argv[1] == '--check': check(sys.argv[2])
    else: make(pathlib.Path(sys.argv[1]), int(sys.argv[2]), *( [tuple(sys.argv[3:])] if sys.argv[3:] else []))
