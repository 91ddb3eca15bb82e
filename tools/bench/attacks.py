"""Attacks on chapter 8's network: accuracy against the size of the change, on the whole test set.

Three networks of the same kind, each with one epoch of MNIST's 60,000 pictures: one trained by a
PyTorch loop, one by Keras' `fit`, one by a PyTorch loop that attacks each batch first (adversarial
training). Pictures are numbers from 0 to 1, changes are measured by their largest pixel, and what
is attacked is the float32 network. One run of each: what is close isn't told apart by this.
"""

import numpy as np

EPSILONS = [0.0, 0.05, 0.1, 0.15, 0.2, 0.3]
RADIUS = 0.2  # what adversarial training prepares for
STEPS = 10
PREPARE = 3  # steps of PGD against each batch of adversarial training
BATCH, LR = 128, 0.005


def pictures():
    """MNIST as PyTorch has it: pictures (N, 1, 28, 28) from 0 to 1, and labels."""
    import torch

    from helpers.data import load_mnist

    digits = load_mnist()
    if not digits.is_mnist:
        raise RuntimeError("This benchmark needs the real MNIST: set BOOK_DATA to its folder.")
    found = []
    for x, y in ((digits.x_train, digits.y_train), (digits.x_test, digits.y_test)):
        found += [torch.tensor(x / np.float32(255))[:, None], torch.tensor(y.astype("int64"))]
    return found


def make_torch_model():
    import torch
    from torch import nn

    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1600, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    return model.to(memory_format=torch.channels_last)


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


def slope(model, x, y):
    """The gradient of the loss with respect to the pictures."""
    import torch
    from torch.nn import functional as F

    x = x.detach().requires_grad_(True)
    return torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)[0]


def inside(z, x, epsilon):
    """Back into the box around x, and into the range of pixels."""
    return (x + (z - x).clamp(-epsilon, epsilon)).clamp(0, 1)


def fgsm(model, x, y, epsilon):
    return inside(x + epsilon * slope(model, x, y).sign(), x, epsilon)


def pgd(model, x, y, epsilon, steps=STEPS, generator=None):
    """Signed steps within the box, from a random start in it."""
    import torch

    z = inside(x + epsilon * (2 * torch.rand(x.shape, generator=generator) - 1), x, epsilon)
    for _ in range(steps):
        z = inside(z + 2.5 * epsilon / steps * slope(model, z, y).sign(), x, epsilon)
    return z


def right(model, x, y):
    """Which pictures get the right answer."""
    import torch

    with torch.no_grad():
        parts = [model(x[i : i + 500]).argmax(1) for i in range(0, len(x), 500)]
    return torch.cat(parts) == y


def survive(model, x, y, epsilon, generator):
    """Which pictures are answered rightly at every step of PGD; the others leave at once."""
    import torch

    z = inside(x + epsilon * (2 * torch.rand(x.shape, generator=generator) - 1), x, epsilon)
    alive = right(model, x, y) & right(model, z, y)
    for _ in range(STEPS):
        left = alive.nonzero()[:, 0]
        for rows in left.split(500) if len(left) else ():
            step = 2.5 * epsilon / STEPS * slope(model, z[rows], y[rows]).sign()
            z[rows] = inside(z[rows] + step, x[rows], epsilon)
            alive[rows] = right(model, z[rows], y[rows])
    return alive


def train(x, y, attack=None, seed=0, only=None):
    """One epoch, one cycle of the learning rate. `attack` changes each batch before it is used."""
    import torch
    from torch.nn import functional as F

    torch.manual_seed(seed)
    model, order = make_torch_model(), torch.randperm(len(x))
    batches = order.split(BATCH)[:only]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=len(batches))
    for rows in batches:
        x_batch = attack(model, x[rows], y[rows]) if attack else x[rows]
        optimizer.zero_grad()
        F.cross_entropy(model(x_batch), y[rows]).backward()
        optimizer.step()
        cycle.step()
    return model


def train_keras(x, y):
    """The same by Keras' `fit`, from its own start and in its own order."""
    import keras

    keras.utils.set_random_seed(1)
    model, steps = make_keras_model(), -(-len(x) // BATCH)
    cycle = keras.optimizers.schedules.CosineDecay(
        LR / 25, steps - steps // 3, warmup_target=LR, warmup_steps=steps // 3
    )
    model.compile(
        keras.optimizers.AdamW(cycle, weight_decay=0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x.permute(0, 2, 3, 1).numpy(), y.numpy(), batch_size=BATCH, epochs=1, verbose=0)
    return lambda z: model(z.permute(0, 2, 3, 1))


def share(rows):
    return round(rows.double().mean().item(), 4)


def curves(model, x, y):
    """Accuracy under noise, FGSM and PGD of each size, on all of x."""
    import torch

    found = {"noise": [], "fgsm": [], "pgd": []}
    for epsilon in EPSILONS:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(0, 2, x.shape, generator=generator) * 2.0 - 1
        found["noise"].append(share(right(model, inside(x + epsilon * noise, x, epsilon), y)))
        fooled = [
            right(model, fgsm(model, *part, epsilon), part[1])
            for part in zip(x.split(500), y.split(500), strict=True)
        ]
        found["fgsm"].append(share(torch.cat(fooled)))
        alive = survive(model, x, y, epsilon, generator) if epsilon else right(model, x, y)
        found["pgd"].append(share(alive))
    return found


def transfer(models, x, y):
    """Accuracy of each network on what was made against each: [attacked][asked]."""
    import torch

    found = {}
    for name, model in models.items():
        generator = torch.Generator().manual_seed(0)
        parts = list(zip(x.split(500), y.split(500), strict=True))
        z = torch.cat([pgd(model, *part, RADIUS, generator=generator) for part in parts])
        found[name] = {other: share(right(models[other], z, y)) for other in models}
    return found


def run():
    import torch

    from tools.bench import interleaved

    torch.set_num_threads(1)
    x, y, x_test, y_test = pictures()

    def attack(steps):
        return lambda model, *batch: pgd(model, *batch, RADIUS, steps)

    models = {
        "PyTorch": train(x, y),
        "Keras": train_keras(x, y),
        "robust": train(x, y, attack(PREPARE)),
    }
    found = {"epsilons": EPSILONS, "radius": RADIUS, "steps": STEPS, "pictures": len(x_test)}
    found["curves"] = {}
    for name in ("PyTorch", "robust"):
        found["curves"][name] = curves(models[name], x_test, y_test)
        print(name, found["curves"][name], flush=True)
    found["transfer"] = transfer(models, x_test[:1000], y_test[:1000])
    print("transfer", found["transfer"], flush=True)
    part = x_test[:500], y_test[:500]
    found["steps of PGD"] = {}
    for steps in (1, 2, 5, 10, 20):
        z = pgd(models["robust"], *part, RADIUS, steps, torch.Generator().manual_seed(0))
        found["steps of PGD"][steps] = share(right(models["robust"], z, part[1]))
    print("steps", found["steps of PGD"], flush=True)
    plain, robust = (right(models[name], x_test, y_test) for name in ("PyTorch", "robust"))
    found["only one right"] = {
        "PyTorch": int((plain & ~robust).sum()),
        "robust": int((robust & ~plain).sum()),
    }
    seconds = interleaved.interleave(
        {
            "ordinary": lambda: train(x, y, only=8),
            "one step": lambda: train(x, y, attack(1), only=8),
            "three steps": lambda: train(x, y, attack(PREPARE), only=8),
        },
        rounds=7,
    )
    print(interleaved.table(seconds), flush=True)
    found["time"] = interleaved.ratios(seconds)
    return found
