"""Double descent: where linear features predict it, and what a network does as it gets wider.

A fifth of the training labels are drawn anew. Both parts train on few pictures of 14 x 14, with
the code of the benchmark `generalisation` for the pictures and of the package `crowd` for the
networks, and judge on 5,000 fresh pictures with their true labels.
"""

import numpy as np

NOISE = 0.2
FEATURES = {  # examples: numbers of features; the largest are 8 times as many
    n: sorted({round(n * r) for r in (0.125, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 4, 8)})
    for n in (100, 200)
}
RIDGES = (0.0, 0.1)
WIDTHS = [2, 4, 6, 8, 12, 16, 32, 64, 128, 256]
SEEDS = range(8)


def noisy(y, seed):
    """The labels of one training set, a share of them drawn anew from the ten digits."""
    import torch

    rng, y = np.random.default_rng([seed, 17]), y.clone()
    drawn = rng.random(len(y)) < NOISE
    y[torch.tensor(drawn)] = torch.tensor(rng.integers(0, 10, drawn.sum()))
    return y


def features(data):
    """Mistakes in percent of ridge regression on random cosines, eight times each."""
    from tools.bench.generalisation import own

    found = {}
    fresh, truth = (part.numpy() for part in data["check"])
    for n, counts in FEATURES.items():
        found[n] = {str(ridge): {} for ridge in RIDGES}
        x, y = own(data["pool"], SEEDS, n)
        for p in counts:
            wrong = {ridge: [] for ridge in RIDGES}
            for seed in SEEDS:
                rng = np.random.default_rng([seed, 18])
                W, b = rng.normal(size=(196, p)) / 14, rng.uniform(0, 2 * np.pi, p)
                A, B = (np.cos(part @ W + b) * np.sqrt(2 / p) for part in (x[seed].numpy(), fresh))
                U, s, Vt = np.linalg.svd(A, full_matrices=False)
                T = np.eye(10)[noisy(y[seed], seed).numpy()] - 0.1
                for ridge in RIDGES:
                    answer = (B @ Vt.T @ ((s / (s**2 + ridge))[:, None] * (U.T @ T))).argmax(1)
                    wrong[ridge].append(round(100 * float((answer != truth).mean()), 2))
            for ridge, values in wrong.items():
                found[n][str(ridge)][p] = values
        worst = max(found[n]["0.0"], key=lambda p: np.mean(found[n]["0.0"][p]))
        print(f"  {n} pictures: most mistakes with {worst} features", flush=True)
    return found


def widths(data, n=300, epochs=300):
    """Loss and mistakes of eight networks of each width: to the end, and stopped at their best."""
    import crowd
    import torch

    from tools.bench.generalisation import own

    x, clean = own(data["pool"], SEEDS, n)
    y = torch.stack([noisy(labels, seed) for labels, seed in zip(clean, SEEDS, strict=True)])
    few, found = tuple(part[:250] for part in data["val"]), {}
    for width in WIDTHS:
        net = crowd.train(x, y, SEEDS, epochs=epochs, batch_size=100, lr=4e-3, width=width, val=few)
        row = {"train_loss": net.history["loss"][-1]}
        for when, stopped in (("end", False), ("stopped", True)):
            loss, right = crowd.scores(net.logits(data["check"][0], stopped), data["check"][1])
            row |= {f"loss, {when}": loss, f"mistakes, {when}": 100 * (1 - right)}
        found[width] = {
            key: [round(float(v), 4 if "loss" in key else 2) for v in values]
            for key, values in row.items()
        }
        means = {key: round(float(np.mean(v)), 3) for key, v in row.items()}
        print(f"  {width:4} {means}", flush=True)
    return found


def run() -> dict:
    """Random features for two sizes of training set; networks of ten widths."""
    from tools.bench.generalisation import pictures

    data = pictures()
    print("\nRandom features", flush=True)
    results = {"features": features(data)}
    print("\nNetworks", flush=True)
    results["widths"] = widths(data)
    return results
