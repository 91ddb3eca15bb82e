"""What the codes of the debugging guide take for granted: a small problem that works."""
# ruff: noqa: F401

import copy

import keras
import numpy as np
import torch
from keras import layers, ops
from torch import nn

rng = np.random.default_rng(0)
centres = 1.2 * rng.normal(size=(10, 20))


def draw(n):
    """Examples of ten classes: 20 numbers each, around their class's centre."""
    labels = rng.integers(10, size=n)
    return (centres[labels] + rng.normal(size=(n, 20))).astype("float32"), labels


x_train, y_train = draw(512)
x_val, y_val = draw(256)
x, y = torch.from_numpy(x_train), torch.from_numpy(y_train)  # the same, as tensors
keras_loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
torch_loss_fn = nn.CrossEntropyLoss()


def make_keras_model():
    """A network that learns it."""
    return keras.Sequential(
        [keras.Input(shape=(20,)), layers.Dense(32, activation="relu"), layers.Dense(10)]
    )


def make_torch_model():
    """Its twin."""
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 10))


def train(model, x, y, optimizer, loss_fn, epochs=5, batch_size=64):
    """PyTorch's loop: the mean loss of each epoch."""
    losses = []
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(x)).split(batch_size):
            optimizer.zero_grad()
            loss = loss_fn(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        losses.append(total / len(x))
    return losses


def accuracy(model, x, y):
    """The share of right answers, of either framework's model, in the mode that it is in."""
    with torch.no_grad():
        return float((model(torch.as_tensor(x)).argmax(1) == torch.as_tensor(y)).float().mean())
