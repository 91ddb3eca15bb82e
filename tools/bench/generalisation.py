"""Remedies against overfitting over seeds, and learning curves.

Networks 196-128-10 on 14 x 14 pictures of MNIST. Each seed has its own training pictures, start
and order. Strengths are chosen on validation pictures with other seeds; what is reported was
counted on pictures that served for nothing else. The test set is not touched.
"""

import math

import numpy as np

SEEDS = range(16)
SEARCH_SEEDS = range(100, 106)
STRENGTHS = {
    "weight decay": [{"decay": v} for v in (0.1, 0.3, 1.0)],
    "dropout": [{"dropout": v} for v in (0.2, 0.4, 0.6)],
    "augmentation": [{"augment": v} for v in (0.5, 1.0, 1.5)],
    "label smoothing": [{"smoothing": v} for v in (0.02, 0.05, 0.1)],
    "BatchNorm": [{"norm": True}],
    "fewer units": [{"width": v} for v in (16, 32, 64)],
}
SIZES = [50, 100, 200, 400, 800, 1600, 3200, 6400]


def pictures():
    """MNIST as rows whose paper is 0: a pool to train on, 4 times 250 to choose, 5,000 to judge."""
    import crowd
    import torch

    from helpers.data import load_mnist

    digits = load_mnist()
    if not digits.is_mnist:
        raise RuntimeError("This benchmark needs the real MNIST: set BOOK_DATA to its folder.")
    order = np.random.default_rng(0).permutation(60_000)
    ink = crowd.shrink(digits.x_train[order])
    x = torch.tensor(ink / ink[:50_000].std())
    y = torch.tensor(digits.y_train[order].astype("int64"))
    cuts = {"pool": slice(50_000), "val": slice(50_000, 51_000), "check": slice(51_000, 56_000)}
    return {name: (x[rows], y[rows]) for name, rows in cuts.items()}


def own(pool, seeds, n):
    """Each seed's own n training pictures and labels: (seeds, n, 196), (seeds, n)."""
    rows = [np.random.default_rng([seed, 14]).permutation(len(pool[0]))[:n] for seed in seeds]
    return pool[0][np.stack(rows)], pool[1][np.stack(rows)]


def calibration_error(logits, y, bins=15):
    """ECE of each network, as in chapter 9: bins of equally many pictures."""
    confidence, answer = logits.softmax(2).max(2)
    errors = []
    for said, right in zip(confidence.double().numpy(), (answer == y).numpy(), strict=True):
        parts = np.array_split(np.argsort(said), bins)
        gaps = [abs(said[part].mean() - right[part].mean()) * len(part) for part in parts]
        errors.append(sum(gaps) / len(said))
    return np.array(errors)


def told_apart(member, fresh):
    """How often a training picture has a smaller loss than a fresh one: (networks, N) each."""
    areas = []
    for inside, outside in zip(member, fresh, strict=True):
        outside = np.sort(outside)
        above = len(outside) - np.searchsorted(outside, inside, "right")
        tied = np.searchsorted(outside, inside, "right") - np.searchsorted(outside, inside, "left")
        areas.append((above + tied / 2).mean() / len(outside))
    return np.array(areas)


def judge(net, x, y, check, stopped=False):
    """What one crowd is worth: one number a network for each question."""
    import crowd
    import torch
    from torch.nn import functional as F

    logits, own_logits = net.logits(check[0], stopped), net.logits(x, stopped)
    loss, right = crowd.scores(logits, check[1])
    fresh = F.cross_entropy(
        logits.transpose(1, 2), check[1].expand(len(logits), -1), reduction="none"
    )
    member = F.cross_entropy(own_logits.transpose(1, 2), y, reduction="none")
    with torch.no_grad():
        return {
            "train_loss": member.double().mean(1).numpy(),
            "train_accuracy": 100 * (own_logits.argmax(2) == y).double().mean(1).numpy(),
            "loss": loss,
            "accuracy": 100 * right,
            "calibration": 100 * calibration_error(logits, check[1]),
            "told_apart": told_apart(member.numpy(), fresh.numpy()),
        }


def remedies(data, n, epochs):
    """Choose each remedy's strength, then judge all of them on the same seeds."""
    import crowd

    def train(seeds, n=n, epochs=epochs, **how):
        x, y = own(data["pool"], seeds, n)
        return (
            crowd.train(x, y, seeds, lr=3e-3, epochs=epochs, **how),
            x,
            y,
        )

    chosen = {}
    for name, strengths in STRENGTHS.items():
        tried = [train(SEARCH_SEEDS, **how)[0].logits(data["val"][0]) for how in strengths]
        found = [crowd.scores(logits, data["val"][1])[1] for logits in tried]
        chosen[name] = strengths[int(np.argmax([f.mean() for f in found]))]
        print(
            f"  {name:16} {chosen[name]}  {[round(float(100 * f.mean()), 1) for f in found]}",
            flush=True,
        )
    how = {"nothing": {}, **chosen}
    how["all of them"] = {k: v for c in chosen.values() for k, v in c.items() if k != "width"}
    three = ("weight decay", "dropout", "augmentation")
    how["decay, dropout, augmentation"] = {k: v for c in three for k, v in chosen[c].items()}
    how["four times the pictures"] = {"n": 4 * n, "epochs": max(1, epochs // 4)}
    how["both of these"] = how["decay, dropout, augmentation"] | how["four times the pictures"]
    judged = {}
    for name, settings in how.items():
        watch = {"val": data["val"]} if name == "nothing" else {}
        net, x, y = train(SEEDS, **settings, **watch)
        judged[name] = judge(net, x, y, data["check"])
        if name == "nothing":
            judged["early stopping"] = judge(net, x, y, data["check"], stopped=True)
    net, x, y = train(range(1000, 1000 + len(SEEDS)))
    judged["other seeds"] = judge(net, x, y, data["check"])
    digits = {"train_loss": 4, "loss": 4, "told_apart": 4}
    return {
        "n": n,
        "chosen": how,
        "judged": {
            name: {k: [round(float(u), digits.get(k, 2)) for u in v] for k, v in values.items()}
            for name, values in judged.items()
        },
    }


def curves(data):
    """Mistakes in percent of ten networks for each size of the training set, with two recipes."""
    import crowd

    recipes = {"nothing": {}, "three remedies": {"decay": 0.3, "dropout": 0.2, "augment": 1.0}}
    found = {name: {} for name in recipes}
    for n in SIZES:
        x, y = own(data["pool"], range(10), n)
        epochs = max(15, math.ceil(400 / math.ceil(n / 50)))
        for name, how in recipes.items():
            net = crowd.train(x, y, range(10), lr=3e-3, epochs=epochs, **how)
            right = crowd.scores(net.logits(data["check"][0]), data["check"][1])[1]
            found[name][n] = [round(float(v), 2) for v in 100 * (1 - right)]
        print(f"  n {n:5}", {k: round(np.mean(v[n]), 2) for k, v in found.items()}, flush=True)
    return found


def run() -> dict:
    """The remedies with 300 and with 1,200 pictures, the learning curves."""
    data = pictures()
    results = {}
    for n, epochs in ((300, 80), (1200, 20)):
        print(f"\nRemedies, {n} training pictures, {epochs} epochs", flush=True)
        results[f"remedies_{n}"] = found = remedies(data, n, epochs)
        base = found["judged"]["nothing"]
        for name, values in found["judged"].items():
            gain = np.subtract(values["accuracy"], base["accuracy"])
            line = "  ".join(f"{key} {np.mean(v):.3f}" for key, v in values.items())
            print(f"  {name:30} gain {gain.mean():+.2f}  {line}", flush=True)
    print("\nLearning curves, mistakes in percent", flush=True)
    results["curves"] = curves(data)
    return results
