"""A setting in PyTorch: its network, its optimiser, a step and an answer."""

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["learner", "load", "make_model", "make_optimizer"]


# fmt: off
def make_model(setting):
    """The network of a setting: pictures (N, 1, 14, 14) to logits (N, 10)."""
    act = {"relu": nn.ReLU, "tanh": nn.Tanh}
    act, w = act[setting["activation"]], setting["width"]
    model, channels, side = nn.Sequential(), 1, 14
    for i in range(setting["convolutions"]):
        model.append(nn.Conv2d(
            channels, w * 2**i,
            setting["kernel"], padding="same"))
        model.append(act())
        model.append(nn.MaxPool2d(2))
        channels, side = w * 2**i, side // 2
    model.append(nn.Flatten())
    model.append(nn.Linear(side * side * channels, 8 * w))
    model.append(act())
    model.append(nn.Dropout(setting["dropout"]))
    model.append(nn.Linear(8 * w, 10))
    return model


def make_optimizer(setting, parameters):
    """Its optimiser; decay is AdamW's alone."""
    if setting["optimizer"] == "sgd":
        return torch.optim.SGD(
            parameters, lr=setting["lr"], momentum=0.9)
    return torch.optim.AdamW(
        parameters, lr=setting["lr"], eps=1e-20,
        weight_decay=setting["decay"])


def load(model, weights):
    """Give it weights in Keras' layout: axes turned, and the rows behind Flatten reordered."""
    parts = [p for p in model if hasattr(p, "weight")]
    channels = 1
    with torch.no_grad():
        for i, layer in enumerate(parts):
            kernel = torch.tensor(weights[2 * i])
            if kernel.ndim == 4:
                channels = kernel.shape[3]
                kernel = kernel.permute(3, 2, 0, 1)
            else:
                rows = kernel.unflatten(0, (-1, channels))
                kernel = rows.transpose(0, 1).flatten(0, 1).T
                channels = 1
            layer.weight.copy_(kernel)
            layer.bias.copy_(torch.tensor(weights[2 * i + 1]))


def learner(setting, weights):
    """A step on a batch, and the logits for pictures: two functions of NumPy arrays."""
    model = make_model(setting)
    load(model, weights)
    optimizer = make_optimizer(setting, model.parameters())

    def step(x, y):
        x, y = torch.tensor(x), torch.tensor(y)
        optimizer.zero_grad()
        logits = model.train()(x.permute(0, 3, 1, 2))
        F.cross_entropy(logits, y).backward()
        optimizer.step()

    def answer(x):
        with torch.no_grad():
            x = torch.tensor(x).permute(0, 3, 1, 2)
            return model.eval()(x).numpy()

    return step, answer
