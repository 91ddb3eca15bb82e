"""Rows of the ledger: precision, and what this backend can't do."""

from functools import partial

import keras
import numpy as np
import torch
from keras import layers
from torch import nn

from helpers import parity

from . import entry
from .yardstick import draw, gap, refusal

precision = partial(entry, "Precision", float32=True, chapter="13_defaults")
backend = partial(entry, "The backend", chapter="10_keras_in_torch")


def third():
    """1/3 times 1, by a Keras Dense: how far is it from 1/3?"""
    dense = layers.Dense(1, kernel_initializer="ones")
    return gap(dense(np.array([[1 / 3]])).detach(), [[1 / 3]])


@precision(
    'floatx of "float64"',
    keras="Dense, losses and BatchNormalization compute in float32",
    torch="set_default_dtype: float64 it is",
    mend="parity.float64()",
    unit="a Dense's 1/3 times 1",
    chapter="01_concepts",
)
def floatx():
    try:
        keras.config.set_floatx("float64")
        before = third()
    finally:
        keras.config.set_floatx("float32")
    with parity.float64():
        return before, third()


@precision(
    "mixed_bfloat16 and autocast",
    keras="rounds the product, then the sum with the bias",
    torch="rounds once",
    mend="F.linear(x, W) + b.bfloat16() under autocast",
    unit="outputs",
)
def mixed():
    half = 2.0**-8  # of bfloat16's spacing at 1: twice half is a step, half and half are none
    dense, linear, x = layers.Dense(1, dtype="mixed_bfloat16"), nn.Linear(2, 1), [[1.0, half]]
    dense.build((None, 2))
    dense.set_weights([np.ones((2, 1)), np.array([half])])
    nn.init.ones_(linear.weight)
    nn.init.constant_(linear.bias, half)
    ours, x = dense(np.array(x)).detach().float(), torch.tensor(x)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        once = linear(x)
        twice = nn.functional.linear(x, linear.weight) + linear.bias.bfloat16()
    return gap(ours, once.float()), gap(ours, twice.float())


@precision(
    "mixed_bfloat16 and autocast, without a bias",
    keras='dtype="mixed_bfloat16"',
    torch="torch.autocast",
    mend="nothing to do: the same rounding",
    unit="outputs",
)
def mixed_without_bias():
    dense = layers.Dense(5, dtype="mixed_bfloat16", use_bias=False)
    dense.build((None, 2))
    linear, x = nn.Linear(2, 5, bias=False), draw(50, 2)
    linear.weight.data = dense.kernel.value.data.T.clone()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        same = gap(dense(x).float(), linear(x).float())
    return same, same


@backend(
    "np.asarray(model(x))",
    keras="refused: the outputs carry a gradient",
    torch="refused",
    mend="model.predict(x), or keras.ops.convert_to_numpy",
    unit="outputs",
)
def outputs_as_numpy():
    dense = layers.Dense(3)
    y = dense(draw(8, 4))
    refused = refusal(lambda: np.asarray(y))
    assert refused == refusal(lambda: np.asarray(nn.Linear(4, 3)(draw(8, 4))))
    return refused, gap(keras.ops.convert_to_numpy(y), y.detach())


@backend(
    "keras.distribution",
    keras="an error on this backend",
    torch="torch.distributed",
    mend="DistributedDataParallel, in a loop",
    unit="error",
    chapter="13_defaults",
)
def distribution():
    assert torch.distributed.is_available()
    return refusal(keras.distribution.DataParallel), None


@backend(
    "BatchNormalization(synchronized=True)",
    keras="refused on this backend",
    torch="nn.SyncBatchNorm",
    mend="a PyTorch twin",
    unit="error",
    chapter="13_defaults",
)
def synchronized():
    nn.SyncBatchNorm(3)
    layer = layers.BatchNormalization
    return refusal(lambda: layer(synchronized=True)(draw(8, 3), training=True)), None
