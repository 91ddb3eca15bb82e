"""Rows of the ledger: activations, and the laws by which weights are drawn."""

import warnings
from functools import partial

import keras
import torch
from keras import layers
from keras.initializers import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
)
from torch import Tensor, nn

from . import entry
from .yardstick import draw, drawn, gap, values

row = partial(entry, "Activations", unit="outputs from -6 to 6", chapter="02_activations")

LINE = torch.linspace(-6, 6, 601, dtype=torch.float64, device="cpu")


def line() -> Tensor:
    """Inputs on which an activation is compared, in the type of the row."""
    return LINE.to(torch.get_default_dtype())


# Activations that differ.


@row(
    "LeakyReLU, the layer",
    keras="negative_slope=0.3",
    torch="negative_slope=0.01",
    mend="negative_slope=0.01",
)
def leaky_relu_layer():
    theirs = nn.LeakyReLU()(line())
    ours = layers.LeakyReLU(), layers.LeakyReLU(negative_slope=0.01)
    return tuple(gap(each(line()), theirs) for each in ours)


@row(
    'LeakyReLU, activation="leaky_relu"',
    keras="negative_slope=0.2",
    torch="negative_slope=0.01",
    mend="layers.LeakyReLU(negative_slope=0.01)",
)
def leaky_relu_function():
    theirs = nn.LeakyReLU()(line())
    ours = layers.Activation("leaky_relu"), layers.LeakyReLU(negative_slope=0.01)
    return tuple(gap(each(line()), theirs) for each in ours)


@row(
    "keras.ops.gelu",
    keras="approximate=True",
    torch='approximate="none"',
    mend="approximate=False",
)
def gelu_operation():
    theirs, gelu = nn.GELU()(line()), keras.ops.gelu
    return gap(gelu(line()), theirs), gap(gelu(line(), approximate=False), theirs)


@row(
    "PReLU, the first slope",
    keras='alpha_initializer="Zeros"',
    torch="init=0.25",
    mend="alpha_initializer=Constant(0.25)",
)
def prelu_start():
    x, theirs = line()[:, None], nn.PReLU()
    quarter = layers.PReLU(Constant(0.25))
    return gap(layers.PReLU()(x), theirs(x)), gap(quarter(x), theirs(x))


@row(
    "PReLU, how many slopes",
    keras="one for each input: shared_axes=None",
    torch="one for all: num_parameters=1",
    mend="shared_axes=[1, 2, 3], all axes but N",
    unit="number of slopes for a picture of 3 × 4 × 5",
)
def prelu_slopes():
    def slopes(**settings):
        return drawn(layers.PReLU(**settings), (None, 3, 4, 5)).alpha.value.numel()

    theirs = nn.PReLU().weight.numel()
    return slopes() - theirs, slopes(shared_axes=[1, 2, 3]) - theirs


@row(
    "Softmax of three axes",
    keras="axis=-1, the last",
    torch="dim=None: the first, and warns",
    mend="dim=-1",
    unit="outputs",
)
def softmax_axis():
    x = draw(3, 4, 5)
    with warnings.catch_warnings(action="ignore"):
        before = gap(layers.Softmax()(x), nn.Softmax()(x))
    return before, gap(layers.Softmax()(x), nn.Softmax(dim=-1)(x))


# Activations that are the same.

SAME = {
    "02_activations": {
        "relu": nn.ReLU(),
        "elu": nn.ELU(),
        "silu": nn.SiLU(),
        "gelu": nn.GELU(),
        "tanh": nn.Tanh(),
        "sigmoid": nn.Sigmoid(),
        "softplus": nn.Softplus(),
    },
    "13_defaults": {
        "relu6": nn.ReLU6(),
        "celu": nn.CELU(),
        "selu": nn.SELU(),
        "mish": nn.Mish(),
        "hard_sigmoid": nn.Hardsigmoid(),
        "hard_silu": nn.Hardswish(),
        "hard_tanh": nn.Hardtanh(),
        "hard_shrink": nn.Hardshrink(),
        "soft_shrink": nn.Softshrink(),
        "tanh_shrink": nn.Tanhshrink(),
        "softsign": nn.Softsign(),
        "log_sigmoid": nn.LogSigmoid(),
    },
}


for chapter, pairs in SAME.items():
    for name, theirs in pairs.items():

        @row(
            name,
            keras=f'activation="{name}"',
            torch=f"nn.{type(theirs).__name__}()",
            mend="nothing to do",
            chapter=chapter,
        )
        def same(name=name, theirs=theirs):
            apart = gap(layers.Activation(name)(line()), theirs(line()))
            return apart, apart


# How weights are drawn.

law = partial(
    entry,
    "Initialisers",
    unit="spread of 200,000 weights, relative",
    chapter="02_activations",
    bound=0.01,  # five standard errors of the deviation of 200,000 normal numbers are 0.008
)


def spread(weights: Tensor) -> Tensor:
    """A drawn weight's standard deviation, and the absolute value that 999 of 1,000 don't reach."""
    return torch.stack([weights.std(), weights.abs().quantile(0.999)]).detach()


def off(weights: Tensor, other: Tensor) -> float:
    """How far the spread of `weights` is from another, as a part of the other."""
    return gap(spread(weights) / other, torch.ones(2))


def uniform(limit: float) -> Tensor:
    """The spread of numbers drawn evenly from -limit to limit."""
    return limit * torch.tensor([1 / 3**0.5, 0.999])


def truncated(deviation: float) -> Tensor:
    """The spread of normal numbers cut at two, then widened to have this deviation."""
    root = torch.tensor(2.0).sqrt()
    most = root * torch.erfinv(0.999 * torch.erf(2 / root))
    return deviation * torch.stack([torch.tensor(1.0), most / 0.879626])


@law(
    "Dense, the kernel",
    keras='"glorot_uniform": ±√(6 / (in + out))',
    torch="±1 / √in",
    mend='VarianceScaling(1 / 3, "fan_in", "uniform")',
)
def dense_kernel():
    theirs, third = nn.Linear(400, 500).weight, VarianceScaling(1 / 3, "fan_in", "uniform")
    before = off(GlorotUniform()((400, 500)), spread(theirs))
    return before, max(off(each, uniform(1 / 20)) for each in (third((400, 500)), theirs))


@law(
    "Dense, the bias",
    keras='bias_initializer="zeros"',
    torch="±1 / √in",
    mend="nn.init.zeros_(linear.bias)",
    unit="largest bias for 100 inputs",
    bound=0,
)
def dense_bias():
    linear, dense = nn.Linear(100, 200), layers.Dense(200)
    dense.build((None, 100))
    before = gap(dense.bias, linear.bias)
    return before, gap(dense.bias, nn.init.zeros_(linear.bias))


@law(
    "Conv2D, the kernel",
    keras='"glorot_uniform": ±√(6 / (9 in + 9 out)) for 3 × 3',
    torch="±1 / √(9 in)",
    mend='VarianceScaling(1 / 3, "fan_in", "uniform")',
)
def conv_kernel():
    theirs, third = nn.Conv2d(100, 225, 3).weight, VarianceScaling(1 / 3, "fan_in", "uniform")
    before = off(GlorotUniform()((3, 3, 100, 225)), spread(theirs))
    mended = third((3, 3, 100, 225)), theirs
    return before, max(off(each, uniform(1 / 30)) for each in mended)


@law(
    "xavier_uniform_ on a kernel in Keras' order",
    keras="reads (height, width, in, out)",
    torch="reads (out, in, height, width)",
    mend="draw in PyTorch's order, then permute(2, 3, 1, 0)",
    chapter="08_convolution",
)
def xavier_on_keras_kernel():
    ours, xavier = spread(GlorotUniform()((3, 3, 100, 225))), nn.init.xavier_uniform_
    mended = xavier(torch.empty(225, 100, 3, 3)).permute(2, 3, 1, 0)
    assert mended.shape == (3, 3, 100, 225)
    return off(xavier(torch.empty(3, 3, 100, 225)), ours), off(mended, ours)


@law(
    "glorot_uniform",
    keras="±√(6 / (in + out))",
    torch="xavier_uniform_: the same",
    mend="nothing to do",
)
def glorot_uniform():
    both = GlorotUniform()((400, 500)), nn.init.xavier_uniform_(torch.empty(500, 400))
    apart = max(off(each, uniform((6 / 900) ** 0.5)) for each in both)
    return apart, apart


@law(
    "he_uniform",
    keras="±√(6 / in)",
    torch="kaiming_uniform_, a=0: the same",
    mend="nothing to do",
)
def he_uniform():
    both = HeUniform()((400, 500)), nn.init.kaiming_uniform_(torch.empty(500, 400))
    apart = max(off(each, uniform((6 / 400) ** 0.5)) for each in both)
    return apart, apart


def cut_(weight: Tensor, deviation: float) -> Tensor:
    """PyTorch's truncated normal as Keras draws it."""
    wide = deviation / 0.879626
    return nn.init.trunc_normal_(weight, std=wide, a=-2 * wide, b=2 * wide)


@law(
    "he_normal",
    keras="cut at two deviations, then widened by 1 / 0.8796",
    torch="kaiming_normal_: not cut",
    mend="trunc_normal_(w, std=s, a=-2 * s, b=2 * s), s = √(2 / in) / 0.8796",
    chapter="13_defaults",
)
def he_normal():
    ours, deviation = HeNormal()((400, 500)), (2 / 400) ** 0.5
    before = off(nn.init.kaiming_normal_(torch.empty(500, 400)), spread(ours))
    mended = ours, cut_(torch.empty(500, 400), deviation)
    return before, max(off(each, truncated(deviation)) for each in mended)


@law(
    "glorot_normal",
    keras="cut at two deviations, then widened by 1 / 0.8796",
    torch="xavier_normal_: not cut",
    mend="trunc_normal_(w, std=s, a=-2 * s, b=2 * s), s = √(2 / (in + out)) / 0.8796",
    chapter="13_defaults",
)
def glorot_normal():
    ours, deviation = GlorotNormal()((400, 500)), (2 / 900) ** 0.5
    before = off(nn.init.xavier_normal_(torch.empty(500, 400)), spread(ours))
    mended = ours, cut_(torch.empty(500, 400), deviation)
    return before, max(off(each, truncated(deviation)) for each in mended)


@law(
    "RandomNormal",
    keras="stddev=0.05",
    torch="normal_: std=1.0",
    mend="write it out in both",
    unit="standard deviation of 200,000 weights",
    chapter="13_defaults",
)
def random_normal():
    theirs = nn.init.normal_(torch.empty(400, 500)).std()
    ours = RandomNormal(), RandomNormal(stddev=1.0)
    return tuple(gap(each((400, 500)).std(), theirs) for each in ours)


@law(
    "RandomUniform",
    keras="minval=-0.05, maxval=0.05",
    torch="uniform_: a=0.0, b=1.0",
    mend="write them out in both",
    unit="mean of 200,000 weights",
    chapter="13_defaults",
)
def random_uniform():
    theirs = nn.init.uniform_(torch.empty(400, 500)).mean()
    ours = RandomUniform(), RandomUniform(0.0, 1.0)
    return tuple(gap(each((400, 500)).mean(), theirs) for each in ours)


@law(
    "TruncatedNormal",
    keras="stddev=0.05, cut at 2 stddev",
    torch="trunc_normal_: std=1.0, cut at a=-2.0 and b=2.0, whatever std is",
    mend="a=-2 * std, b=2 * std",
    chapter="13_defaults",
)
def truncated_normal():
    ours, cuts = spread(TruncatedNormal()((400, 500))), ({}, {"a": -0.1, "b": 0.1})
    theirs = (nn.init.trunc_normal_(torch.empty(400, 500), std=0.05, **cut) for cut in cuts)
    return tuple(off(each, ours) for each in theirs)


@law(
    "TruncatedNormal, the cut",
    keras="on PyTorch: of four draws the first that fits, or the first",
    torch="trunc_normal_: none is beyond the cut",
    mend="trunc_normal_, or clip",
    unit="weights beyond the cut, of a million",
    chapter="13_defaults",
    bound=0,
)
def truncated_normal_cut():
    def beyond(weights):
        return (weights.abs() > 2).sum().item()

    theirs = beyond(nn.init.trunc_normal_(torch.empty(1000, 1000)))
    return beyond(TruncatedNormal(stddev=1.0)((1000, 1000))) - theirs, theirs


@law(
    "Embedding",
    keras='"uniform": ±0.05',
    torch="normal, deviation 1",
    mend="embeddings_initializer=RandomNormal(stddev=1.0)",
    unit="standard deviation of 200,000 weights",
    chapter="13_defaults",
)
def embedding():
    def deviation(**settings):
        embedding = layers.Embedding(400, 500, **settings)
        embedding.build((None, 1))
        return embedding.embeddings.value.std()

    theirs = nn.Embedding(400, 500).weight.std()
    return tuple(
        gap(deviation(**settings), theirs)
        for settings in ({}, {"embeddings_initializer": RandomNormal(stddev=1.0)})
    )


def fresh(layer: layers.Layer, *shapes: tuple[int | None, ...]) -> list[Tensor]:
    """The weights with which a Keras layer starts."""
    layer.build(*shapes)
    return values(layer)


@law(
    "LSTM, the kernel",
    keras='"glorot_uniform": ±√(6 / (in + 4 units))',
    torch="±1 / √units",
    mend="nn.init.xavier_uniform_(lstm.weight_ih_l0)",
    chapter="13_defaults",
)
def lstm_kernel():
    kernel, _, _ = fresh(layers.LSTM(125), (None, 7, 400))
    theirs, exact = nn.LSTM(400, 125).weight_ih_l0, uniform((6 / 900) ** 0.5)
    before = off(kernel, spread(theirs))
    return before, max(off(each, exact) for each in (kernel, nn.init.xavier_uniform_(theirs)))


@law(
    "LSTM, the recurrent kernel",
    keras='"orthogonal"',
    torch="±1 / √units",
    mend="nn.init.orthogonal_(lstm.weight_hh_l0)",
    unit="singular values",
    chapter="13_defaults",
    bound=1e-12,
)
def lstm_recurrent_kernel():
    _, hidden, _ = fresh(layers.LSTM(32), (None, 7, 5))
    ours, theirs = torch.linalg.svdvals(hidden), nn.LSTM(5, 32).weight_hh_l0
    before = gap(ours, torch.linalg.svdvals(theirs))
    return before, gap(ours, torch.linalg.svdvals(nn.init.orthogonal_(theirs)))


@law(
    "LSTM, the bias",
    keras="unit_forget_bias=True: 1 for the gate f, else 0",
    torch="two, each ±1 / √units",
    mend="zeros_ for both, then bias_ih_l0[units:2 * units] = 1",
    unit="the bias, PyTorch's two added up",
    chapter="12_weights",
    bound=0,
)
@torch.no_grad()
def lstm_bias():
    (_, _, ours), theirs = fresh(layers.LSTM(4), (None, 7, 5)), nn.LSTM(5, 4)
    before = gap(ours, theirs.bias_ih_l0 + theirs.bias_hh_l0)
    nn.init.zeros_(theirs.bias_ih_l0)[4:8] = 1
    return before, gap(ours, theirs.bias_ih_l0 + nn.init.zeros_(theirs.bias_hh_l0))


def attention_start() -> tuple[Tensor, Tensor, nn.MultiheadAttention]:
    """Keras' kernels of query and output, 450 by 450, and PyTorch's layer, as they start."""
    weights = fresh(layers.MultiHeadAttention(9, 50), (None, 5, 450), (None, 5, 450))
    return weights[0], weights[-2], nn.MultiheadAttention(450, 9)


@law(
    "MultiHeadAttention, query, key and value",
    keras='three times "glorot_uniform": ±√(6 / (E + E))',
    torch="one matrix (3 E, E): ±√(6 / (E + 3 E))",
    mend="nn.init.xavier_uniform_ of each w in in_proj_weight.chunk(3)",
    chapter="13_defaults",
)
def attention_projections():
    kernel, _, attention = attention_start()
    query = attention.in_proj_weight.detach().chunk(3)[0]
    before = off(query, spread(kernel))
    mended = kernel, nn.init.xavier_uniform_(query)
    return before, max(off(each, uniform((3 / 450) ** 0.5)) for each in mended)


@law(
    "MultiHeadAttention, the output",
    keras='"glorot_uniform": ±√(6 / (E + E))',
    torch="as Linear: ±1 / √E",
    mend="nn.init.xavier_uniform_(attention.out_proj.weight)",
    chapter="13_defaults",
)
def attention_output():
    _, kernel, attention = attention_start()
    theirs = attention.out_proj.weight
    before = off(theirs, spread(kernel))
    mended = kernel, nn.init.xavier_uniform_(theirs)
    return before, max(off(each, uniform((3 / 450) ** 0.5)) for each in mended)
