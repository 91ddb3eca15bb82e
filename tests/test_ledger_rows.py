"""The ledger's rows of layers, activations, initialisers and losses: measured, and what they say.

A row states defaults in words. Here each `name=value` of its words is looked up in the signature
of the thing itself, or is named as a setting that the row spells out.
"""

import ast
import inspect
import re

import keras
import pytest
from keras import initializers, layers, losses
from torch import nn
from torch.nn import functional as F

import notebooks.ledger.activations
import notebooks.ledger.layers
import notebooks.ledger.losses  # noqa: F401  (importing them enters their rows)
from notebooks import ledger

TOPICS = "Layers", "Activations", "Initialisers", "Losses"
ROWS = [row for row in ledger.ENTRIES if row.topic in TOPICS]
CHAPTERS = {
    "01_concepts",
    "02_activations",
    "03_losses",
    "05_optimisers",
    "07_dense",
    "08_convolution",
    "12_weights",
    "13_defaults",  # the ledger's own: no chapter before it tells
}
SAME = "nothing to do"


DEFAULTS = {
    # (row, side): the things whose signature holds the default that the words give
    ("Conv2D, padding", "keras"): [layers.Conv2D],
    ("Conv2D, padding", "torch"): [nn.Conv2d],
    ('AveragePooling2D(3, 1, padding="same")', "torch"): [nn.AvgPool2d],
    ("UpSampling2D, bilinear", "torch"): [F.interpolate],
    ("BatchNormalization, epsilon", "keras"): [layers.BatchNormalization],
    ("BatchNormalization, epsilon", "torch"): [nn.BatchNorm1d, nn.BatchNorm2d],
    ("BatchNormalization, momentum", "keras"): [layers.BatchNormalization],
    ("BatchNormalization, momentum", "torch"): [nn.BatchNorm1d, nn.BatchNorm2d],
    ("BatchNormalization, in inference", "keras"): [layers.BatchNormalization],
    ("BatchNormalization, in inference", "torch"): [nn.BatchNorm1d, nn.BatchNorm2d],
    ("BatchNormalization, the axis", "keras"): [layers.BatchNormalization],
    ("LayerNormalization, epsilon", "keras"): [layers.LayerNormalization],
    ("LayerNormalization, epsilon", "torch"): [nn.LayerNorm],
    ("GroupNormalization, epsilon", "keras"): [layers.GroupNormalization],
    ("GroupNormalization, epsilon", "torch"): [nn.GroupNorm],
    ("GroupNormalization, the number of groups", "keras"): [layers.GroupNormalization],
    ("RMSNormalization, epsilon", "keras"): [layers.RMSNormalization],
    ("RMSNormalization, epsilon", "torch"): [nn.RMSNorm],
    ("Dropout, the rate", "torch"): [nn.Dropout],
    ("LSTM, the axes of a sequence", "torch"): [nn.RNNBase],
    ("LSTM, what it returns", "keras"): [layers.LSTM, layers.GRU],
    ("GRU(reset_after=False)", "keras"): [layers.GRU],
    ("MultiHeadAttention, the axes of a sequence", "torch"): [nn.MultiheadAttention],
    ("MultiHeadAttention, the weights it shows", "torch"): [nn.MultiheadAttention.forward],
    ("LeakyReLU, the layer", "keras"): [layers.LeakyReLU],
    ("LeakyReLU, the layer", "torch"): [nn.LeakyReLU],
    ('LeakyReLU, activation="leaky_relu"', "keras"): [keras.activations.leaky_relu],
    ('LeakyReLU, activation="leaky_relu"', "torch"): [nn.LeakyReLU],
    ("keras.ops.gelu", "keras"): [keras.ops.gelu],
    ("keras.ops.gelu", "torch"): [nn.GELU],
    ("PReLU, the first slope", "keras"): [layers.PReLU],
    ("PReLU, the first slope", "torch"): [nn.PReLU],
    ("PReLU, how many slopes", "keras"): [layers.PReLU],
    ("PReLU, how many slopes", "torch"): [nn.PReLU],
    ("Softmax of three axes", "keras"): [layers.Softmax],
    ("Softmax of three axes", "torch"): [nn.Softmax],
    ("Dense, the bias", "keras"): [layers.Dense],
    ("he_uniform", "torch"): [nn.init.kaiming_uniform_],
    ("RandomNormal", "keras"): [initializers.RandomNormal],
    ("RandomNormal", "torch"): [nn.init.normal_],
    ("RandomUniform", "keras"): [initializers.RandomUniform],
    ("RandomUniform", "torch"): [nn.init.uniform_],
    ("TruncatedNormal", "keras"): [initializers.TruncatedNormal],
    ("TruncatedNormal", "torch"): [nn.init.trunc_normal_],
    ("LSTM, the bias", "keras"): [layers.LSTM],
    ("Cross-entropy of logits", "keras"): [
        losses.SparseCategoricalCrossentropy,
        losses.CategoricalCrossentropy,
    ],
    ("Cross-entropy of probabilities", "keras"): [losses.SparseCategoricalCrossentropy],
    ("Cross-entropy of log-probabilities", "keras"): [losses.SparseCategoricalCrossentropy],
    ("Binary cross-entropy of logits", "keras"): [losses.BinaryCrossentropy],
    ("Poisson", "torch"): [nn.PoissonNLLLoss],
    ("Poisson, epsilon", "torch"): [nn.PoissonNLLLoss],
    ("KLDivergence, a mean of what", "torch"): [nn.KLDivLoss],
    ("The label -100", "torch"): [nn.CrossEntropyLoss],
}

# Settings that a row spells out: on this side the words give no default.
SPELT = {
    ('Conv2D(padding="same"), kernel 4', "torch"),
    ('Conv2D(strides=2, padding="same"), as spelt', "torch"),
    ('Conv2D(3, strides=2, padding="same"), even side', "torch"),
    ('Conv2D(5, strides=2, padding="same"), even side', "torch"),
    ('Conv1D(padding="causal")', "torch"),
    ('Conv2DTranspose(3, strides=2, padding="same")', "torch"),
    ('Conv2DTranspose(4, strides=2, padding="same")', "torch"),
    ('Conv2DTranspose(5, strides=2, padding="same")', "torch"),
    ("DepthwiseConv2D(depth_multiplier=2)", "torch"),
    ('MaxPooling2D(2, padding="same"), odd side', "torch"),
    ('MaxPooling2D(3, 2, padding="same"), even side', "torch"),
    ('MaxPooling2D(5, 2, padding="same"), even side', "torch"),
    ('AveragePooling2D(3, 2, padding="same"), even side', "torch"),
    ("BatchNormalization, frozen", "keras"),
    ("Embedding, the row of the padding", "keras"),
    ("Embedding, the row of the padding", "torch"),
    ("BCELoss of a sigmoid, its gradient", "keras"),
    ("Cross-entropy by softmax, log, NLLLoss", "keras"),
    ("Label smoothing", "keras"),
    ("Label smoothing", "torch"),
    ("Label smoothing, integer labels", "torch"),
    ("Label smoothing, two classes", "keras"),
    ("A batch of labels -100", "keras"),
    ("Class weights, one-hot labels", "keras"),
    ("L2 of 0.1", "keras"),
    ("L2 of 0.1", "torch"),
}

# Initialisers that a row names by their text alone.
NAMED = {
    ("Dense, the kernel", '"glorot_uniform"'): (layers.Dense, "kernel_initializer"),
    ("Conv2D, the kernel", '"glorot_uniform"'): (layers.Conv2D, "kernel_initializer"),
    ("Embedding", '"uniform"'): (layers.Embedding, "embeddings_initializer"),
    ("LSTM, the kernel", '"glorot_uniform"'): (layers.LSTM, "kernel_initializer"),
    ("LSTM, the recurrent kernel", '"orthogonal"'): (layers.LSTM, "recurrent_initializer"),
    ("MultiHeadAttention, query, key and value", '"glorot_uniform"'): (
        layers.MultiHeadAttention,
        "kernel_initializer",
    ),
    ("MultiHeadAttention, the output", '"glorot_uniform"'): (
        layers.MultiHeadAttention,
        "kernel_initializer",
    ),
}


@pytest.fixture(scope="module")
def measured():
    return {each.entry: each for each in ledger.measure(ROWS)}


def row_named(name):
    (row,) = [row for row in ROWS if row.name == name]
    return row


def stated(row, side):
    """All `name=value` in the words of one side, as {name: value as it is written}."""
    value = r'"[^"]*"|-?[\w.]+(?:-\d+)?'
    return dict(re.findall(rf"(\w+)=({value})", getattr(row, side)))


def test_every_row_is_here_once():
    assert len({(row.topic, row.name) for row in ROWS}) == len(ROWS)
    assert all(sum(row.topic == topic for row in ROWS) > 10 for topic in TOPICS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.topic}: {row.name}")
def test_a_row_differs_until_it_is_mended(row, measured):
    """The mend is what closes the gap: without it the row breaks its bound, by far."""
    before, after = measured[row].before, measured[row].after
    assert measured[row].differs == (row.mend != SAME)
    if not measured[row].differs:
        assert before == after
    elif row.mend.startswith("none"):
        assert after is None
    else:
        assert after <= row.bound
        if not isinstance(before, str):
            assert before > (8 if row.bound == 0.01 else 1e3) * row.bound


def test_the_words_of_the_rows():
    assert {row.chapter for row in ROWS} == CHAPTERS
    for row in ROWS:
        for words in (row.name, row.keras, row.torch, row.mend, row.unit):
            assert words == words.strip() and words and len(words) < 90, words
            assert words[-1] not in ".;" and "`" not in words, words


@pytest.mark.parametrize("name, side", DEFAULTS)
def test_a_default_is_what_the_signature_says(name, side):
    found = stated(row_named(name), side)
    assert found
    for owner in DEFAULTS[name, side]:
        parameters = inspect.signature(owner).parameters
        for parameter, value in found.items():
            assert parameters[parameter].default == ast.literal_eval(value)


@pytest.mark.parametrize("name, text", NAMED)
def test_an_initialiser_is_what_the_signature_says(name, text):
    owner, parameter = NAMED[name, text]
    assert text in row_named(name).keras
    assert inspect.signature(owner).parameters[parameter].default == ast.literal_eval(text)


def test_no_default_is_stated_unchecked():
    rows = [row for row in ROWS if not (row.topic == "Activations" and row.mend == SAME)]
    said = {(row.name, side) for row in rows for side in ("keras", "torch") if stated(row, side)}
    assert said == set(DEFAULTS) | SPELT


def test_what_has_no_default_has_to_be_given():
    for owner, parameter in (
        (layers.Dropout, "rate"),
        (nn.GroupNorm, "num_groups"),
        (nn.LayerNorm, "normalized_shape"),
    ):
        assert inspect.signature(owner).parameters[parameter].default is inspect.Parameter.empty
    assert layers.Dropout(0.5).seed is None


def test_a_row_says_the_same_twice():
    """From the same seed, whatever ran before: so that the table can be printed and compared."""
    some = [row_named(name) for name in ("he_normal", "Dropout, the mask", "LSTM, the kernel")]
    first, second = ([(m.before, m.after) for m in ledger.measure(some)] for _ in range(2))
    assert first == second
