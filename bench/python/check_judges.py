"""Logistic regression beside scikit-learn's: the same accuracy and cross-entropy within 1e-3 on both sets, for every C."""
import json, sys
import numpy as np
from scipy.special import logsumexp
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression

sets = load_file(f"{sys.argv[1]}/judges.safetensors")
failed = 0
for ours in json.load(open(f"{sys.argv[1]}/judges.json")):
    fit = LogisticRegression(C=ours["c"], tol=1e-6, max_iter=5000).fit(sets["train"].astype(np.float64), sets["trainLabels"])
    for name in ("train", "test"):
        x, y = sets[name].astype(np.float64), sets[f"{name}Labels"]
        logits = fit.decision_function(x)
        loss = float(np.mean(logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]))  # log_loss would cut each row's off at 36
        top1 = fit.score(x, y)
        off = abs(loss - ours[name]["loss"]), abs(top1 - ours[name]["top1"] / 100)
        ok = max(off) <= 1e-3
        failed += not ok
        print("ok    " if ok else "FAILED", f"logistic regression, C = {ours['c']}, {name}: loss {loss:.4f} off by {off[0]:.1e}, accuracy {top1:.4f} off by {off[1]:.1e}")
sys.exit(failed > 0)
