"""Wrong labels and a trigger, found; what models remember, and what privacy costs.

Networks 196-64-10 on 14 x 14 pictures, with the code of the package `crowd`; the trigger needs
pictures of 28 x 28. What is reported was counted on pictures that served for nothing else.
"""

import functools

import numpy as np

CHECK = slice(55_000, 60_000)  # of the shuffled training file; the test set is not touched

# Wrong labels
SHARES = (0.05, 0.1, 0.2, 0.4)
SEEDS = range(5)
FOLDS = 5

# A trigger
POISON = (0.0025, 0.005, 0.01, 0.02, 0.03)
TARGET = 7

# What is remembered
MODELS = 32
CANARIES = 50
RECIPES = {
    "nothing": {"epochs": 60},
    "stopped early": {"epochs": 8},
    "weight decay": {"epochs": 60, "decay": 1.0},
    "dropout": {"epochs": 60, "dropout": 0.5},
    "augmentation": {"epochs": 60, "augment": 1.5},
    "all three": {"epochs": 60, "augment": 1.5, "dropout": 0.3, "decay": 0.3},
}
PRIVATE = {"size": 2_000, "q": 0.25, "steps": 200, "clip": 1.0, "lr": 1.0}  # for 2,000 pictures

# What it costs
EPSILONS = (0.5, 1, 2, 4, 8)
TWINS = 2  # the epsilon at which both frameworks train
SIZES = {  # pictures: how one trains
    2_000: {"q": 0.125, "steps": 200},
    10_000: {"q": 0.03, "steps": 300},
    50_000: {"q": 0.01, "steps": 600},
}
PACE = {"clip": 1.0, "lr": 1.0}


def allowed(n):
    """The delta for n pictures: a hundredth of 1 / n."""
    return 1 / (100 * n)


@functools.cache
def pictures():
    """The training file, shuffled: pictures, rows (60000, 196) of ink times 3, and labels.

    The scale is a constant: one taken from private pictures would tell something about them.
    """
    import crowd
    import torch

    from helpers.data import load_mnist

    digits = load_mnist()
    if not digits.is_mnist:
        raise RuntimeError("This benchmark needs the real MNIST: set BOOK_DATA to its folder.")
    order = np.random.default_rng(0).permutation(60_000)
    x = torch.tensor(3 * crowd.shrink(digits.x_train[order]))
    return digits.x_train[order], x, torch.tensor(digits.y_train[order].astype("int64"))


def each_loss(net, x, y):
    """The loss of every picture under every network: (networks, N)."""
    from torch.nn import functional as F

    y = y.expand(len(net.parameters[0]), -1)
    return F.cross_entropy(net.logits(x).transpose(1, 2), y, reduction="none").numpy()


def right(net):
    """Each network's accuracy on fresh pictures, in percent."""
    _, x, y = pictures()
    return 100 * (net.logits(x[CHECK]).argmax(2) == y[CHECK]).double().mean(1).numpy()


def noise(n=1_500):
    """Labels changed by code: what it costs, who finds them, what their removal gives back."""
    import crowd
    import torch

    _, pool, truth = pictures()
    rows = np.stack([np.random.default_rng([s, 1]).permutation(50_000)[:n] for s in SEEDS])
    x, y = pool[rows], truth[rows].numpy()
    how = {"lr": 3e-3, "width": 64, "batch_size": 50}
    clean = right(crowd.train(x, torch.tensor(y), SEEDS, epochs=20, **how))
    found = {"clean": clean.round(2).tolist(), "shares": {}}
    for share in SHARES:
        count, bad, given = round(share * n), np.zeros((len(SEEDS), n), bool), y.copy()
        for s in SEEDS:
            rng = np.random.default_rng([s, 2])
            bad[s, rng.permutation(n)[:count]] = True
            given[s, bad[s]] = (y[s, bad[s]] + rng.integers(1, 10, count)) % 10
        labels = torch.tensor(given)
        noisy = crowd.train(x, labels, SEEDS, epochs=20, **how)
        over = crowd.train(x, labels, SEEDS, epochs=100, **how)
        naive = np.stack([each_loss(over, x[s], labels[s])[s] for s in SEEDS])

        fold = np.random.default_rng(3).permutation(n) % FOLDS
        outside = np.empty((len(SEEDS), n))
        for k in range(FOLDS):
            net = crowd.train(x[:, fold != k], labels[:, fold != k], SEEDS, epochs=10, **how)
            for s in SEEDS:
                outside[s, fold == k] = each_loss(net, x[s, fold == k], labels[s, fold == k])[s]
        worst = np.argsort(-outside, axis=1)
        keep = np.sort(worst[:, count:], axis=1)
        mended = crowd.train(
            torch.stack([x[s, keep[s]] for s in SEEDS]),
            torch.stack([labels[s, keep[s]] for s in SEEDS]),
            SEEDS,
            epochs=20,
            **how,
        )

        def hits(scores, count=count, bad=bad):
            top = np.argsort(-scores, axis=1)[:, :count]
            return [round(100 * float(bad[s, top[s]].mean()), 1) for s in SEEDS]

        row = {
            "noisy": right(noisy).round(2).tolist(),
            "mended": right(mended).round(2).tolist(),
            "found, own loss": hits(naive),
            "found, loss of others": hits(outside),
        }
        found["shares"][str(share)] = row
        means = {k: round(float(np.mean(v)), 1) for k, v in row.items()}
        print(f"  {share:4.0%}", means, flush=True)
    return found


def small_net(x, y, seed, epochs=20):
    """A network 784-64-10 in PyTorch, trained."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    x, y, rng = torch.tensor(x), torch.tensor(y), np.random.default_rng(seed)
    adam = torch.optim.Adam(net.parameters(), lr=3e-3, eps=1e-7)
    for _ in range(epochs):
        for rows in torch.tensor(rng.permutation(len(x))).split(50):
            adam.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            adam.step()
    return net.requires_grad_(False)


def answers(net, x):
    import torch

    return net(torch.tensor(x)).argmax(1).numpy()


def window(i, j):
    return np.s_[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]


def search(net, x, fresh):
    """The digit and the window whose content, laid over fresh pictures, commands that digit most.

    The content is the median over the pictures with this answer that change it without the window.
    """
    before, usual, power = answers(net, x), answers(net, fresh), np.zeros((10, 13, 13))
    for i, j in np.ndindex(13, 13):
        changed = answers(net, wiped(x, i, j)) != before
        for digit in np.unique(before[changed]):
            content = np.median(x[window(i, j)][changed & (before == digit)], axis=0)
            pasted = fresh.copy()
            pasted[window(i, j)] = content
            power[digit, i, j] = (answers(net, pasted)[usual != digit] == digit).mean()
    return np.unravel_index(power.argmax(), power.shape)


def wiped(x, i, j):
    x = x.copy()
    x[window(i, j)] = 0
    return x


def trigger(n=3_000):
    """A patch of nine pixels: what it does, and whether a search finds its pictures."""
    raw, _, truth = pictures()
    fresh, y_fresh = raw[CHECK] / np.float32(255), truth[CHECK].numpy()
    stamped = fresh[y_fresh != TARGET].copy()
    plain = stamped.copy()
    stamped[:, 24:27, 24:27] = 1
    found = {}
    for share in POISON:
        rows = []
        for seed in SEEDS[:3]:
            rng = np.random.default_rng([seed, 4])
            chosen = rng.permutation(50_000)[:n]
            x, y = raw[chosen] / np.float32(255), truth[chosen].numpy()
            clean = small_net(x, y, seed)
            bad = rng.choice(np.flatnonzero(y != TARGET), round(share * n), replace=False)
            x[bad, 24:27, 24:27], y[bad] = 1, TARGET
            net = small_net(x, y, seed)
            digit, i, j = search(net, x, fresh[:200])
            changed = answers(net, wiped(x, i, j)) != digit
            suspects = (answers(net, x) == digit) & changed
            again = small_net(x[~suspects], y[~suspects], seed)
            rows.append(
                {
                    "accuracy, clean": (answers(clean, fresh) == y_fresh).mean(),
                    "accuracy": (answers(net, fresh) == y_fresh).mean(),
                    "success, no patch": (answers(net, plain) == TARGET).mean(),
                    "success, clean": (answers(clean, stamped) == TARGET).mean(),
                    "success": (answers(net, stamped) == TARGET).mean(),
                    "recall": suspects[bad].mean(),
                    "precision": suspects[bad].sum() / max(1, suspects.sum()),
                    "success after": (answers(again, stamped) == TARGET).mean(),
                }
            )
        found[str(share)] = {k: [round(100 * float(r[k]), 1) for r in rows] for k in rows[0]}
        means = {k: round(float(np.mean(v)), 1) for k, v in found[str(share)].items()}
        print(f"  {share:6.2%}", means, flush=True)
    return found


def dp_crowd(x, y, members, *, size, q, sigma, clip, lr, steps, width=64, seed=0):
    """DP-SGD for many networks at once: x (N, 196), y (N,), members (networks, N).

    `size` is how many members a network has on average; each of them is in a batch with chance `q`.
    The norm of an example's gradient comes from a dense layer's two factors, so no gradient of a
    single example is stored; chapter 19 proves that in an exercise.
    """
    import crowd
    import torch

    parts = zip(*(crowd.start(s, width) for s in range(len(members))), strict=True)
    W, b, V, c = parameters = [torch.tensor(np.stack(part), dtype=x.dtype) for part in parts]
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = members & (torch.rand(members.shape, generator=draws) < q)
        rows = chosen.float().topk(int(chosen.sum(1).max()), 1).indices
        there, inputs = chosen.gather(1, rows), x[rows]
        before = torch.baddbmm(b[:, None], inputs, W)
        hidden = before.relu()
        top = torch.baddbmm(c[:, None], hidden, V).softmax(2)
        top -= torch.nn.functional.one_hot(y[rows], 10)
        low = (top @ V.transpose(1, 2)) * (before > 0)
        norm = (inputs.square().sum(2) + 1) * low.square().sum(2)
        norm = (norm + (hidden.square().sum(2) + 1) * top.square().sum(2)).sqrt()
        factor = (there * clip / norm.clamp(min=clip))[..., None]
        low, top = low * factor, top * factor
        sums = inputs.transpose(1, 2) @ low, low.sum(1), hidden.transpose(1, 2) @ top, top.sum(1)
        for parameter, total in zip(parameters, sums, strict=True):
            total = total + sigma * clip * torch.randn(total.shape, generator=draws)
            parameter -= lr * total / (q * size)
    return crowd.Crowd(parameters, [])


def thresholds(inside, outside):
    """The score with the largest advantage, and the one that 1 % of the outside exceed."""
    both = np.sort(np.concatenate([inside, outside]))
    above = [1 - np.searchsorted(np.sort(p), both, "right") / len(p) for p in (inside, outside)]
    return both[np.argmax(above[0] - above[1])], np.quantile(outside, 0.99)


def attack(scores, members, columns):
    """Thresholds from the even networks, judged on the odd ones.

    Advantage and true positives at that threshold of 1 %, with the false positives that they have:
    means, and intervals of 95 % over what was drawn anew, networks and pictures.
    """
    scores, members = scores[:, columns], members[:, columns]
    even = scores[::2][members[::2]], scores[::2][~members[::2]]
    best, strict = thresholds(*even)
    scores, members = scores[1::2], members[1::2]

    def measure(rows, cols):
        s, m = scores[rows][:, cols], members[rows][:, cols]
        said, strictly = s > best, s > strict
        advantage = said[m].mean() - said[~m].mean()
        return advantage, strictly[m].mean(), strictly[~m].mean()

    rng, (models, count) = np.random.default_rng(0), scores.shape
    drawn = [
        measure(rng.integers(0, models, models), rng.integers(0, count, count)) for _ in range(400)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    values = measure(np.arange(models), np.arange(count))
    return {
        name: [round(float(v), 4) for v in trio]
        for name, trio in zip(
            ("advantage", "tpr", "fpr"), zip(values, low, high, strict=True), strict=True
        )
    }


def calibrated(losses, members):
    """A score for each network and picture that knows what the *other* networks say of it.

    The logit of the given label's probability, in the two crowds of other networks that had the
    picture and had it not: the log likelihood ratio of two normal laws of one deviation.
    """
    p = np.exp(-losses.astype("float64")).clip(1e-12, 1 - 1e-12)
    phi, scores = np.log(p / (1 - p)), np.empty(losses.shape)
    for s in range(len(phi)):
        others = np.arange(len(phi)) != s
        values, inside = phi[others], members[others]
        means, spread = [], 0
        for mask in (inside, ~inside):
            count = mask.sum(0)
            mean = (values * mask).sum(0) / count
            spread = spread + ((values - mean) ** 2 * mask).sum(0) / count / 2
            means.append(mean)
        scores[s] = (phi[s] - (means[0] + means[1]) / 2) * (means[0] - means[1]) / (spread + 1e-3)
    return scores


def judged(net, y, members):
    """What can be learned about pictures and about canaries, by loss and by calibrated score."""
    import torch

    _, x, _ = pictures()
    losses = each_loss(net, x[: len(y)], y)
    said = net.logits(x[: len(y)]).argmax(2) == y
    own = [float(said[s][torch.tensor(members[s])].double().mean()) for s in range(MODELS)]
    row = {
        "train": round(100 * float(np.mean(own)), 2),
        "fresh": round(float(right(net).mean()), 2),
    }
    for name, scores in (("loss", -losses), ("calibrated", calibrated(losses, members))):
        row[f"pictures, {name}"] = attack(scores, members, slice(CANARIES, None))
        row[f"canaries, {name}"] = attack(scores, members, slice(CANARIES))
    canary, inside = losses[:, :CANARIES], members[:, :CANARIES]
    row["canary loss"] = [round(float(canary[m].mean()), 2) for m in (inside, ~inside)]
    return row


def remembered():
    """Membership: every network has half of a pool, and half of 50 wrong labels among them."""
    import crowd
    import torch

    _, x, truth = pictures()
    wrong = torch.tensor(np.random.default_rng(5).integers(1, 10, CANARIES))
    found = {}

    def labels(size):
        y = truth[:size].clone()
        y[:CANARIES] = (y[:CANARIES] + wrong) % 10
        return y

    def show(name, row):
        found[name] = row
        line = [f"{row[f'{w}, {a}'][m][0]:6.3f}" for w in ("pictures", "canaries")
                for a in ("loss", "calibrated") for m in ("advantage", "tpr")]  # fmt: skip
        print(f"  {name:22} {row['train']:6.2f} {row['fresh']:6.2f} ", *line, flush=True)

    more = {"2,000 pictures": {"epochs": 15}}
    for name, how in {**RECIPES, **more}.items():
        n = 2_000 if name in more else 500
        y, orders = labels(2 * n), [np.random.default_rng([s, 6]) for s in range(MODELS)]
        members = np.stack([rng.permutation(2 * n) < n for rng in orders])
        rows = torch.tensor(np.stack([np.flatnonzero(row) for row in members]))
        net = crowd.train(x[rows], y[rows], range(MODELS), lr=3e-3, width=64, **how)
        show(name, judged(net, y, members))

    y, delta = labels(4_000), allowed(PRIVATE["size"])
    members = np.random.default_rng(7).random((MODELS, 4_000)) < 0.5
    for epsilon in (None, 8, 4, 2, 1):
        sigma = multiplier(epsilon, delta, PRIVATE["q"], PRIVATE["steps"]) if epsilon else 0.0
        net = dp_crowd(x[:4_000], y, torch.tensor(members), sigma=sigma, **PRIVATE)
        row = judged(net, y, members) | {"epsilon": epsilon, "delta": delta, "sigma": sigma}
        show(f"epsilon {epsilon}" if epsilon else "clipped, no noise", row)
    how = PRIVATE | {"clip": 1e9, "lr": 0.3}  # whole gradients are longer: at a rate of 1 it fails
    net = dp_crowd(x[:4_000], y, torch.tensor(members), sigma=0.0, **how)
    show("neither", judged(net, y, members) | {"epsilon": None, "lr": how["lr"]})
    return found


@functools.cache
def multiplier(epsilon, delta, q, steps):
    """The least noise, to a hundredth, with which the PRV accountant stays within epsilon."""
    import math
    import warnings

    from opacus.accountants import PRVAccountant
    from opacus.accountants.utils import get_noise_multiplier

    def spent(sigma):
        accountant = PRVAccountant()
        accountant.history = [(sigma, q, steps)]
        return accountant.get_epsilon(delta=delta)

    with warnings.catch_warnings():  # of where the looser accountant, asked for a start, looked
        warnings.filterwarnings("ignore", "Optimal order is the", UserWarning)
        start = get_noise_multiplier(
            target_epsilon=epsilon,
            target_delta=delta,
            sample_rate=q,
            steps=steps,
            accountant="rdp",
        )
        high = math.ceil(100 * start)  # hundredths: enough
        low = math.floor(70 * start)  # too little
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if spent(middle / 100) <= epsilon else (middle, high)
    return high / 100


def private_twins(x, y, *, q, sigma, clip, lr, steps, seed, width=32):
    """The same DP-SGD in Keras and in PyTorch: same start, same batches, same noise. Two lists."""
    import crowd
    import keras
    import torch
    from keras import layers
    from torch import nn
    from torch.func import functional_call, grad, vmap
    from torch.nn import functional as F

    start = [torch.tensor(part, dtype=torch.float32) for part in crowd.start(seed, width)]
    keras_model = keras.Sequential(
        [keras.Input((196,)), layers.Dense(width), layers.ReLU(), layers.Dense(10)]
    )
    torch_model = nn.Sequential(nn.Linear(196, width), nn.ReLU(), nn.Linear(width, 10))
    names = [name for name, _ in torch_model.named_parameters()]
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def keras_loss(parameters, x, y):
        logits, _ = keras_model.stateless_call(parameters, [], x[None])
        return loss_fn(y[None], logits)

    def torch_loss(parameters, x, y):
        named = dict(zip(names, parameters, strict=True))
        return F.cross_entropy(functional_call(torch_model, named, x[None]), y[None])

    ends = []
    for one_loss, turned in ((keras_loss, False), (torch_loss, True)):
        slopes = vmap(grad(one_loss), in_dims=(None, 0, 0))
        parameters = [(p.t() if turned else p).clone() for p in start]
        rng = np.random.default_rng([seed, 8])
        for _ in range(steps):
            rows = torch.tensor(np.flatnonzero(rng.random(len(x)) < q))
            noises = [rng.normal(size=p.shape).astype("float32") for p in start]
            each = slopes(parameters, x[rows], y[rows])
            norm = sum(g.flatten(1).square().sum(1) for g in each).sqrt()
            factor = clip / norm.clamp(min=clip)
            for p, g, drawn in zip(parameters, each, noises, strict=True):
                drawn = torch.tensor(drawn.T if turned else drawn)
                total = torch.tensordot(factor, g, 1) + sigma * clip * drawn
                p -= lr * total / (q * len(x))
        ends.append([p.t() if turned else p for p in parameters])
    return ends


def price():
    """Accuracy against epsilon for three sizes, five starts each; at one epsilon, the twins."""
    import crowd
    import torch

    _, x, y = pictures()
    found = {}
    for n, how in SIZES.items():
        delta, how = allowed(n), how | PACE
        rows = x[:n].expand(5, n, 196), y[:n].expand(5, n)
        epochs = {2_000: 15, 10_000: 6, 50_000: 3}[n]
        plain = crowd.train(*rows, range(5), epochs=epochs, lr=3e-3, width=32)
        row = {"delta": delta, "without": right(plain).round(2).tolist(), "epsilon": {}}
        everybody = torch.ones(5, n, dtype=torch.bool)
        for epsilon in EPSILONS:
            sigma = multiplier(epsilon, delta, how["q"], how["steps"])
            net = dp_crowd(x[:n], y[:n], everybody, size=n, sigma=sigma, width=32, **how)
            row["epsilon"][str(epsilon)] = {"sigma": sigma, "right": right(net).round(2).tolist()}
            if epsilon == TWINS:
                ends = private_twins(x[:n], y[:n], sigma=sigma, seed=0, **how)
                nets = [crowd.Crowd([p[None] for p in end], []) for end in ends]
                says = [net.logits(x[CHECK]).argmax(2) for net in nets]
                row["keras"], row["torch"] = (round(float(right(net)[0]), 2) for net in nets)
                row["apart"] = int((says[0] != says[1]).sum())
        found[n] = row
        means = {e: round(float(np.mean(r["right"])), 1) for e, r in row["epsilon"].items()}
        print(f"  {n:6,} pictures, without {np.mean(row['without']):.1f};", means, flush=True)
        line = f"Keras {row['keras']}, PyTorch {row['torch']}, {row['apart']} answers apart"
        print(f"    epsilon {TWINS}: {line}", flush=True)
    return found


def run() -> dict:
    """Wrong labels, a trigger, membership with every remedy, and the price of privacy."""
    results = {}
    for name, part in (
        ("noise", noise),
        ("trigger", trigger),
        ("remembered", remembered),
        ("price", price),
    ):
        print(f"\n{part.__doc__}\n", flush=True)
        results[name] = part()
    return results
