"""Losses and gradients of SimCLR and MoCo-v2 by PyTorch, float64, for test/graphs/methods.test.ts: python methods_reference.py > FILE"""
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

print(json.dumps({
    "torch": torch.__version__,
    "simclr": [simclr(4, 8, 0.5), simclr(3, 5, 0.1), simclr(16, 12, 0.2)],
    "mocov2": [mocov2(4, 8, 16, 0.2), mocov2(8, 6, 32, 0.07)],
}))
