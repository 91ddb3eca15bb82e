"""Chapter 24's tests of maps, for several networks: is it the method, or one network's luck?

Each run trains chapter 8's network four times: on the digit and on a bar code planted beside it
(the same 8,000 pictures), and by heart on 100 pictures, once with labels drawn by lot and once with
the right ones. Five runs are trained by a PyTorch loop, two by Keras' `fit`; maps are drawn in
PyTorch, in float32, from Keras' weights where it trained. Scored are the pointing game, the
likeness to maps of randomised networks and of networks with other labels, and deletion by three
fillings.
"""

from itertools import combinations

import numpy as np

RUNS = [("PyTorch", seed) for seed in range(5)] + [("Keras", 5), ("Keras", 6)]
LEARN, LOOK, COMPARE, MEMORY = 8000, 100, 30, 100
COUNTS = (0, 5, 10, 20, 30, 50, 80, 120)


def plant(pictures, seed):
    """Pictures with a bar code in a corner, the codes, and where they stand."""
    bars = np.zeros((10, 5, 5), "float32")
    for code, columns in enumerate(combinations(range(5), 2)):
        bars[code][:, columns] = 1
    rng = np.random.default_rng(seed)
    codes, corners = rng.integers(10, size=len(pictures)), rng.integers(4, size=len(pictures))
    marked, where = pictures.copy(), np.zeros(pictures.shape, bool)
    for i, (down, right) in enumerate(zip(corners // 2, corners % 2, strict=True)):
        window = i, slice(1 + 21 * down, 6 + 21 * down), slice(1 + 21 * right, 6 + 21 * right)
        marked[window], where[window] = bars[codes[i]], True
    return marked, codes, where


def make_torch_model():
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1600, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def make_keras_model():
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            *(layers.Conv2D(32, 3), layers.ReLU(), layers.MaxPooling2D(2)),
            *(layers.Conv2D(64, 3), layers.ReLU(), layers.MaxPooling2D(2)),
            *(layers.Flatten(), layers.Dense(64), layers.ReLU(), layers.Dense(10)),
        ]
    )


def train_torch(x, y, seed, steps, batch_size, lr):
    import torch
    from torch.nn import functional as F

    torch.manual_seed(seed)
    model = make_torch_model().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for step in range(steps):
        rows = np.arange(batch_size * step, batch_size * (step + 1)) % len(x)
        optimizer.zero_grad()
        F.cross_entropy(model(torch.tensor(x[rows, None])), torch.tensor(y[rows])).backward()
        optimizer.step()
        cycle.step()
    return model.to(memory_format=torch.contiguous_format)


def train_keras(x, y, seed, steps, batch_size, lr):
    import keras

    from helpers import parity

    keras.utils.set_random_seed(seed)
    model, epochs = make_keras_model(), -(-steps * batch_size // len(x))
    cycle = keras.optimizers.schedules.CosineDecay(
        lr / 25, steps - steps // 3, warmup_target=lr, warmup_steps=steps // 3
    )
    model.compile(
        keras.optimizers.AdamW(cycle, weight_decay=0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x[..., None], y, batch_size=batch_size, epochs=epochs, verbose=0)
    twin = make_torch_model()
    parity.copy_weights(model, twin)
    return twin


def logits(model, x):
    import torch

    with torch.no_grad():
        return model(torch.tensor(x[:, None])).numpy()


def slope(model, x, k):
    import torch

    x = torch.tensor(x[:, None]).requires_grad_()
    return torch.autograd.grad(model(x)[range(len(k)), k].sum(), x)[0][:, 0].numpy()


def gradient(model, x, k):
    return np.abs(slope(model, x, k))


def times_ink(model, x, k):
    return np.abs(x * slope(model, x, k))


def integrated(model, x, k, m=8):
    return np.abs(x * sum(slope(model, x * np.float32((i + 0.5) / m), k) for i in range(m)) / m)


def places(model, x, k):
    import torch

    with torch.no_grad():
        maps = model[:5](torch.tensor(x[:, None]))
    maps.requires_grad_()
    slopes = torch.autograd.grad(model[5:](maps)[range(len(k)), k].sum(), maps)[0]
    return (slopes.mean((2, 3), keepdim=True) * maps).sum(1).relu().detach()


def stretched(model, x, k):
    from torch.nn import functional as F

    return F.interpolate(places(model, x, k)[:, None], size=(28, 28), mode="bilinear")[:, 0].numpy()


def placed(model, x, k):
    tent = np.maximum(0, 1 - np.abs(np.c_[:28] - (2 * np.arange(11) + 3.5)) / 2)
    return tent @ places(model, x, k).numpy() @ tent.T


def occlusion(model, x, k):
    total, count, rows = np.zeros(x.shape), np.zeros((28, 28)), range(len(x))
    before = logits(model, x)[rows, k]
    for row, column in 3 * np.indices((9, 9)).reshape(2, -1).T:
        window = (slice(row, row + 4), slice(column, column + 4))
        covered = x.copy()
        covered[:, *window] = 0
        total[:, *window] += (before - logits(model, covered)[rows, k])[:, None, None]
        count[window] += 1
    return np.abs(total / count)


def guided(model, x, k):
    from torch import nn

    hooks = [
        layer.register_full_backward_hook(lambda layer, back, _: (back[0].clamp(min=0),))
        for layer in model
        if isinstance(layer, nn.ReLU)
    ]
    found = gradient(model, x, k)
    for hook in hooks:
        hook.remove()
    return found


METHODS = {
    "gradient": gradient,
    "gradient × ink": times_ink,
    "integrated": integrated,
    "Grad-CAM, stretched": stretched,
    "Grad-CAM": placed,
    "occlusion": occlusion,
    "guided": guided,
}


def look(method, model, x):
    return METHODS[method](model, x, logits(model, x).argmax(1))


def score(maps, where):
    """Hits, and the share of the map on the mark."""
    noise = 1e-9 * np.random.default_rng(0).random(maps.shape)
    top = (maps + noise).reshape(len(maps), -1).argmax(axis=1)
    hits = where.reshape(len(maps), -1)[range(len(maps)), top].mean()
    return [float(hits), float(np.mean((maps * where).sum((1, 2)) / (maps.sum((1, 2)) + 1e-12)))]


def likeness(one, two, inside):
    """The mean rank correlation of the maps, where `inside` is true."""
    from scipy import stats

    found = []
    for a, b, part in zip(one, two, inside, strict=True):
        if np.ptp(a[part]) and np.ptp(b[part]):
            found.append(stats.spearmanr(a[part], b[part]).statistic)
    return float(np.mean(found))


def randomised(model, count):
    import copy

    import torch

    model = copy.deepcopy(model)
    torch.manual_seed(100)
    for i in (9, 7, 3, 0)[:count]:
        model[i].reset_parameters()
    return model


def deletion(model, x):
    """The mean share of answers kept, for each filling: by gradient, and by gradient × ink."""
    fillings = {
        "paper": np.zeros_like(x),
        "the opposite": 1 - x,
        "another picture": np.roll(x, 1, axis=0),
    }
    first, found = logits(model, x).argmax(1), {}
    orders = [
        np.argsort(-look(method, model, x).reshape(len(x), -1), axis=1, kind="stable")
        for method in ("gradient", "gradient × ink")
    ]
    for name, filling in fillings.items():
        found[name] = []
        for order in orders:
            kept = []
            for count in COUNTS:
                flat, top = x.reshape(len(x), -1).copy(), order[:, :count]
                new = np.take_along_axis(filling.reshape(len(x), -1), top, axis=1)
                np.put_along_axis(flat, top, new, axis=1)
                kept.append((logits(model, flat.reshape(x.shape)).argmax(1) == first).mean())
            found[name].append(float(np.mean(kept)))
    return found


def one(framework, seed, digits):
    x, y = digits.x_train[:LEARN] / np.float32(255), digits.y_train[:LEARN].astype("int64")
    x_train, codes, _ = plant(x, seed=1)
    x_test, test_codes, where = plant(digits.x_test[:500] / np.float32(255), seed=2)
    train = {"PyTorch": train_torch, "Keras": train_keras}[framework]
    digit = train(x_train, y, 10 * seed, 220, 32, 0.005)
    mark = train(x_train, codes, 10 * seed + 1, 220, 32, 0.005)
    memory, lots = x_train[:MEMORY], np.random.default_rng(seed).integers(10, size=MEMORY)
    by_lot = train(memory, lots, 10 * seed + 2, 80, 50, 0.003)
    by_right = train(memory, y[:MEMORY], 10 * seed + 3, 80, 50, 0.003)
    found = {"framework": framework, "seed": seed}
    found["right"] = {
        "digit": float((logits(digit, x_test).argmax(1) == digits.y_test[:500]).mean()),
        "mark": float((logits(mark, x_test).argmax(1) == test_codes).mean()),
        "by lot, by heart": float((logits(by_lot, memory).argmax(1) == lots).mean()),
        "right, by heart": float((logits(by_right, memory).argmax(1) == y[:MEMORY]).mean()),
    }
    some, few = x_test[:LOOK], x_test[:COMPARE]
    found["pointing"] = {m: score(look(m, mark, some), where[:LOOK]) for m in METHODS}
    found["pointing"]["ink alone"] = score(some, where[:LOOK])
    found["false pointing"] = {m: score(look(m, digit, some), where[:LOOK]) for m in METHODS}
    found["whole"], found["cascade"], found["labels"] = {}, {}, {}
    for m in METHODS:
        maps = look(m, digit, few)
        others = [look(m, randomised(digit, count), few) for count in range(5)]
        found["whole"][m] = likeness(maps, others[4], np.ones(few.shape, bool))
        found["cascade"][m] = [likeness(maps, other, few > 0.5) for other in others]
        ours, *theirs = (look(m, model, memory[:COMPARE]) for model in (digit, by_lot, by_right))
        found["labels"][m] = [likeness(ours, other, memory[:COMPARE] > 0.5) for other in theirs]
    found["deletion"] = deletion(digit, some)
    return found


def run():
    import torch

    from helpers.data import load_mnist

    torch.set_num_threads(1)
    digits = load_mnist()
    if not digits.is_mnist:
        raise RuntimeError("This benchmark needs the real MNIST: set BOOK_DATA to its folder.")
    found = {"pictures": LOOK, "compared": COMPARE, "runs": []}
    for framework, seed in RUNS:
        found["runs"].append(one(framework, seed, digits))
        last = found["runs"][-1]
        print(framework, seed, last["right"], flush=True)
        for m in METHODS:
            print(
                f"  {m:20}hits {last['pointing'][m][0]:.2f}  on whole {last['whole'][m]:.2f}"
                f"  on ink {last['cascade'][m][4]:.2f}  labels {last['labels'][m][0]:.2f}"
                f" {last['labels'][m][1]:.2f}",
                flush=True,
            )
        print("  ", last["deletion"], flush=True)
    return found
