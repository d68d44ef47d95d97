#!/usr/bin/env python3
"""PyTorch training steps on a card, the peers of npm run gpu: one JSON line.

The cases are bench/cases.ts gpuCases: the same networks, batches, queues and optimizers; inputs are fixed random tensors on the device.
fp32 and tf32: eager, the switches of torch.backends; fp16 and bf16: torch.autocast, which takes logits of 16 bits where ours stay
float32, fp16 with GradScaler. memory_mb: in use on the card at the end, as its allocator keeps it.

  python gpu_bench.py --case mocov2_r50 --precision fp16 --layout nhwc [--compile] [--batch N] [--seconds S] [--device cuda]
"""
import argparse, copy, json, math, statistics, time
import torch, torch.nn as nn, torch.nn.functional as F
import torchvision
import step_bench as sb

CASES = {'mocov2_r50': 256, 'densecl_r50': 256, 'mocov3_vits': 256, 'aps_vit': 512}  # name: batch


class MoCoR50(sb.MoCo):  # MoCo-v2, ResNet-50, head 2048-2048-128
    def __init__(s, B, K):
        super().__init__(B, False, K)
        r50 = torchvision.models.resnet50(weights=None)
        r50.fc = nn.Identity()
        s.q = nn.Sequential(r50, sb.mlp2(2048, 2048, 128))
        s.k = copy.deepcopy(s.q).requires_grad_(False)


def positions(side, d):  # MoCo-v3's fixed 2-D sine-cosine rows, class token first
    omega = 1 / 10000 ** (torch.arange(d // 4) / (d / 4))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing='ij')
    both = [f(v.flatten().float()[:, None] * omega) for v in (x, y) for f in (torch.sin, torch.cos)]
    return torch.cat([torch.zeros(1, d), torch.cat(both, 1)])[None]


class MoCoViT(sb.ViT):  # MoCo-v3's ViT-Small: 12 heads, q, k and v biases, epsilon 1e-6
    def __init__(s, d=384, img=224, patch=16):
        super().__init__(d, 12, 12, patch, img)
        for b in s.blocks:
            b.qkv = nn.Linear(d, 3 * d)
            b.n1.eps = b.n2.eps = 1e-6
        s.norm.eps = 1e-6
        del s.pos
        p = positions(img // patch, d)
        s.register_buffer('pos', p[:, 1:])


def head(layers, i, h, o):  # moco-v3 _build_mlp
    m = []
    for n in range(layers):
        a, b = i if n == 0 else h, o if n == layers - 1 else h
        m += [nn.Linear(a, b, bias=False)]
        m += [nn.BatchNorm1d(b), nn.ReLU(inplace=True)] if n < layers - 1 else [nn.BatchNorm1d(b, affine=False)]
    return nn.Sequential(*m)


class MoCoV3(nn.Module):
    def __init__(s):
        super().__init__()
        s.q = nn.Sequential(MoCoViT(), head(3, 384, 4096, 256))
        s.k = copy.deepcopy(s.q).requires_grad_(False)
        s.pred, s.t, s.m = head(2, 256, 4096, 256), .2, .99

    def forward(s, x1, x2):
        q1, q2 = s.pred(s.q(x1)), s.pred(s.q(x2))
        with torch.no_grad():
            k1, k2 = s.k(x1), s.k(x2)

        def ctr(q, k):
            scores = F.normalize(q) @ F.normalize(k).T / s.t
            return F.cross_entropy(scores, torch.arange(q.shape[0])) * 2 * s.t
        return ctr(q1, k2) + ctr(q2, k1)


def build(case, B, nhwc, compile_):
    """module, the callable, inputs, optimizer, before, after: as step_bench.build"""
    if case == 'densecl_r50':
        return sb.build('densecl_r50_224', B, 224, nhwc, 0, compile_)
    if case == 'aps_vit':
        return sb.build('aps_vit_32', B, 32, nhwc, 0, compile_)
    torch.manual_seed(0)
    x = lambda: torch.randn(B, 3, 224, 224).to(memory_format=torch.channels_last if nhwc else torch.contiguous_format)
    before = after = lambda *a: None
    if case == 'mocov2_r50':
        m = MoCoR50(B, 65536)
        opt, after = sb.sgd(m.q.parameters()), m.enqueue
    else:
        m = MoCoV3()
        opt = torch.optim.AdamW([*m.q.parameters(), *m.pred.parameters()], lr=1e-3, weight_decay=.05)
    before = lambda: sb.ema(m.k, m.q, m.m)
    if nhwc:
        m = m.to(memory_format=torch.channels_last)
    m.train()
    return m, torch.compile(m) if compile_ else m, (x(), x()), opt, before, after


def bench(a):
    cuda = a.device == 'cuda'
    torch.set_default_device(a.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = a.precision == 'tf32'
    torch.backends.cudnn.benchmark = True
    B = a.batch or CASES[a.case]
    m, fn, inputs, opt, before, after = build(a.case, B, a.layout == 'nhwc', a.compile)
    narrow = {'fp16': torch.float16, 'bf16': torch.bfloat16}.get(a.precision)
    scaler = torch.amp.GradScaler(a.device, enabled=a.precision == 'fp16')
    wait = torch.cuda.synchronize if cuda else lambda: None

    def step():
        before()
        opt.zero_grad(set_to_none=True)
        with torch.autocast(a.device, narrow or torch.bfloat16, enabled=narrow is not None):
            out = fn(*inputs)
        loss, rest = (out[0], out[1:]) if isinstance(out, tuple) else (out, ())
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
        after(*[r.float() for r in rest])
        return loss

    for _ in range(a.warmup):
        loss = step()
    wait()
    times, began = [], time.perf_counter()
    while len(times) < 4 or time.perf_counter() - began < a.seconds:
        t = time.perf_counter()
        loss = step()
        wait()
        times.append(time.perf_counter() - t)
    median = statistics.median(times)
    assert math.isfinite(loss.item()), 'the loss is not finite'
    free, total = torch.cuda.mem_get_info() if cuda else (0, 0)
    print(json.dumps({'case': a.case, 'version': torch.__version__, 'precision': a.precision, 'layout': a.layout,
                      'compile': a.compile, 'batch': B, 'steps': len(times), 'loss': round(loss.item(), 4),
                      'step_ms_median': round(median * 1e3, 2), 'img_s': round(B / median, 2),
                      'memory_mb': round((total - free) / 2**20) if cuda else None,
                      'params': sum(p.numel() for p in m.parameters() if p.requires_grad)}))


if __name__ == '__main__':
    ap = argparse.ArgumentParser()
    ap.add_argument('--case', required=True, choices=CASES)
    ap.add_argument('--device', default='cuda')
    ap.add_argument('--precision', choices=['fp32', 'tf32', 'fp16', 'bf16'], default='fp32')
    ap.add_argument('--layout', choices=['nchw', 'nhwc'], default='nchw')
    ap.add_argument('--compile', action='store_true')
    ap.add_argument('--batch', type=int, default=0)
    ap.add_argument('--warmup', type=int, default=3)
    ap.add_argument('--seconds', type=float, default=10)
    bench(ap.parse_args())
