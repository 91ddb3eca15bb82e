"""Whom a network fails: a group that is rare in training, and what helps it.

The rare group's pictures lean to the left, by code, so that every picture exists in either hand.
Errors are counts of wrong answers on the same 10,000 pictures, which no network was trained on.
"""

import functools
import math

import numpy as np

BY = -0.6  # pixels to the right for each row upwards
CHECK = slice(50_000, 60_000)  # of the shuffled training file; the test set is not touched
SHARE = 0.02

# A good network: convolutions, 50,000 pictures
GOOD = {"epochs": 6, "batch_size": 64, "lr": 3e-3, "dropout": 0.4}

# Small networks, 5,000 pictures
SEEDS = range(8)
SIZE = 5_000
EPOCHS = (3, 10, 40)
SHARES = (0.002, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.998)
RECIPES = {
    "nothing": {},
    "weight 7": {"times": 7},
    "weight 49": {"times": 49},
    "resampling": {"times": 49, "resample": True},
    "group DRO": {"dro": 0.01},
    "group DRO, decay": {"dro": 0.01, "decay": 0.3},
    "leaning at random": {"leaning": 0.6},
}


@functools.cache
def pictures():
    """The training file, shuffled: pictures as they are (60000, 28, 28) in bytes, and labels."""
    from helpers.data import load_mnist

    digits = load_mnist()
    if not digits.is_mnist:
        raise RuntimeError("This benchmark needs the real MNIST: set BOOK_DATA to its folder.")
    order = np.random.default_rng(0).permutation(60_000)
    return digits.x_train[order], digits.y_train[order].astype("int64")


def rows(x):
    """Pictures (N, 28, 28) as rows (N, 196) of ink times 3."""
    import crowd

    return 3 * crowd.shrink(x)


@functools.cache
def judges():
    """The pictures of CHECK in either hand, as rows, and their labels."""
    import groups

    x, y = pictures()
    return {"usual": rows(x[CHECK]), "leaning": rows(groups.lean(x[CHECK], BY))}, y[CHECK]


def mixed(chosen, share):
    """Some of the pictures as rows, the first part of them leaning; labels; who leans."""
    import groups

    x, y = pictures()
    rare = np.arange(len(chosen)) < round(share * len(chosen))
    x = x[chosen].astype("float32")
    x[rare] = groups.lean(x[rare], BY)
    return rows(x), y[chosen], rare


def keras_network(x, y, steps):
    """A convolutional network in Keras, trained; gives a function from rows to answers."""
    import keras
    from keras import layers

    from helpers.training import Batches, tell

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((14, 14, 1)),
            layers.Conv2D(16, 3, padding="same"),
            layers.ReLU(),
            layers.Conv2D(32, 3, padding="same"),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(GOOD["dropout"]),
            layers.Dense(64),
            layers.ReLU(),
            layers.Dense(10),
        ]
    )
    lr = keras.optimizers.schedules.CosineDecay(GOOD["lr"], steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(lr, epsilon=1e-7), loss)
    batches = Batches(x.reshape(-1, 14, 14, 1), y, GOOD["batch_size"], seed=0)
    model.fit(batches, epochs=GOOD["epochs"], shuffle=False, callbacks=[tell(batches)], verbose=0)
    return lambda x: model.predict(x.reshape(-1, 14, 14, 1), verbose=0).argmax(1)


def torch_network(x, y, steps):
    """The same in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from helpers import training

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding="same"),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(GOOD["dropout"]),
        nn.Linear(32 * 49, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    adam = torch.optim.Adam(model.parameters(), lr=GOOD["lr"], eps=1e-7)
    training.fit(
        model,
        training.Batches(x.reshape(-1, 1, 14, 14), y, GOOD["batch_size"], seed=0),
        optimizer=adam,
        loss_fn=F.cross_entropy,
        epochs=GOOD["epochs"],
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps),
        metrics={},
        verbose=0,
    )
    return lambda x: training.predict(model, x.reshape(-1, 1, 14, 14)).argmax(1)


def good():
    """How often the good networks are wrong, in either hand."""
    chosen = np.arange(50_000)
    x, y, _ = mixed(chosen, SHARE)
    views, truth = judges()
    steps, found = GOOD["epochs"] * math.ceil(len(x) / GOOD["batch_size"]), {}
    for name, make in (("Keras", keras_network), ("PyTorch", torch_network)):
        answer = make(x, y, steps)
        found[name] = {hand: int((answer(v) != truth).sum()) for hand, v in views.items()}
        print(f"  {name:8}", found[name], flush=True)
    return found


def wrong(net, x, y):
    """How many wrong answers each network of a crowd gives."""
    import torch

    said = net.logits(torch.as_tensor(x)).argmax(2)
    return (said != torch.as_tensor(y)).sum(1).tolist()


def crowd_of(share, **how):
    """Networks on pictures of which a share leans: their errors in either hand, and on their own.

    `own` counts the wrong answers on the rare pictures that the network was trained on.
    """
    import groups
    import torch

    sets = [
        mixed(np.random.default_rng([seed, 1]).permutation(50_000)[:SIZE], share) for seed in SEEDS
    ]
    x, y, rare = (np.stack(part) for part in zip(*sets, strict=True))
    net = groups.train(torch.tensor(x), torch.tensor(y), rare, SEEDS, **how)
    views, truth = judges()
    found = {hand: wrong(net, v, truth) for hand, v in views.items()}
    few = int(rare[0].sum())
    found["own"] = wrong(net, torch.tensor(x[:, :few]), torch.tensor(y[:, :few]))
    return found


def tell(name, found):
    means = {hand: round(float(np.mean(found[hand])) / 100, 2) for hand in ("usual", "leaning")}
    print(f"  {name:20}", means, flush=True)
    return found


def run():
    print("good networks, wrong of 10,000")
    results = {"by": BY, "share": SHARE, "size": SIZE, "of": 10_000, "good": good()}
    print("by the share of leaning pictures, percent")
    results["shares"] = {str(s): tell(f"{s}", crowd_of(s, epochs=10)) for s in SHARES}
    results["recipes"] = {}
    for epochs in EPOCHS:
        print(epochs, "epochs")
        results["recipes"][str(epochs)] = {
            name: tell(name, crowd_of(SHARE, epochs=epochs, **how)) for name, how in RECIPES.items()
        }
    return results
