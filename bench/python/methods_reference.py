"""Losses and gradients of SimCLR, MoCo-v2, BYOL and MoCo-v3 by PyTorch, float64, for test/graphs/methods.test.ts: python methods_reference.py > FILE"""
import json, torch, torch.nn.functional as F

torch.manual_seed(0)
grid = lambda *shape: (torch.randn(*shape, dtype=torch.float64) * 1024).round() / 1024  # exact in float32
flat = lambda t: {"shape": list(t.shape), "data": t.detach().flatten().tolist()}

def simclr(b, d, tau):
    x = grid(2 * b, d).requires_grad_()
    z = F.normalize(x, dim=1)
    s = (z @ z.T / tau).masked_fill(torch.eye(2 * b, dtype=torch.bool), float("-inf"))
    loss = F.cross_entropy(s, torch.arange(2 * b).roll(b))
    loss.backward()
    return {"batch": b, "temperature": tau, "x": flat(x), "loss": loss.item(), "grad": flat(x.grad)}

def mocov2(n, d, k, tau):
    xq, xk = grid(n, d).requires_grad_(), grid(n, d)
    queue = F.normalize(grid(k, d), dim=1)
    q, key = F.normalize(xq, dim=1), F.normalize(xk, dim=1)
    logits = torch.cat([(q * key).sum(1, keepdim=True), q @ queue.T], 1) / tau
    loss = F.cross_entropy(logits, torch.zeros(n, dtype=torch.long))
    loss.backward()
    return {"temperature": tau, "xq": flat(xq), "xk": flat(xk), "queue": flat(queue), "loss": loss.item(), "grad": flat(xq.grad), "rows": flat(key)}

def byol(n, d, symmetric):
    p1, p2 = grid(n, d).requires_grad_(), grid(n, d).requires_grad_()
    z1, z2 = grid(n, d), grid(n, d)
    apart = lambda p, z: (F.normalize(p, dim=1) - F.normalize(z, dim=1)).pow(2).sum(1).mean()
    loss = apart(p1, z2) + (apart(p2, z1) if symmetric else 0)
    loss.backward()
    return {"symmetric": symmetric, "p1": flat(p1), "p2": flat(p2), "z1": flat(z1), "z2": flat(z2), "loss": loss.item(),
            "grad1": flat(p1.grad), **({"grad2": flat(p2.grad)} if symmetric else {})}

def mocov3(n, d, tau):
    q1, q2 = grid(n, d).requires_grad_(), grid(n, d).requires_grad_()
    k1, k2 = grid(n, d), grid(n, d)
    ctr = lambda q, k: F.cross_entropy(F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / tau, torch.arange(n)) * 2 * tau
    loss = ctr(q1, k2) + ctr(q2, k1)
    loss.backward()
    return {"temperature": tau, "q1": flat(q1), "q2": flat(q2), "k1": flat(k1), "k2": flat(k2), "loss": loss.item(),
            "grad1": flat(q1.grad), "grad2": flat(q2.grad)}

print(json.dumps({
    "torch": torch.__version__,
    "simclr": [simclr(4, 8, 0.5), simclr(3, 5, 0.1), simclr(16, 12, 0.2)],
    "mocov2": [mocov2(4, 8, 16, 0.2), mocov2(8, 6, 32, 0.07)],
    "byol": [byol(4, 8, True), byol(6, 5, False)],
    "mocov3": [mocov3(4, 8, 0.2), mocov3(12, 6, 1.0)],
}))
