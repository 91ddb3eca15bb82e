"""What helpers.pairing pairs and refuses; that the verdict of helpers.parity can be yes and no."""

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

from helpers import kinds, parity
from helpers.pairing import ParityError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers():
    """Each test draws the same data, whichever tests ran before it."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def mse():
    """The loss pair; a Keras loss keeps the dtype that it was made in, so it is made anew."""
    return keras.losses.MeanSquaredError(), nn.MSELoss()


# ------------------------------------------------------------------------------------ weights


def randomise(weights):
    """Give every weight, statistics too, positive random values around one: none is neutral."""
    with torch.no_grad():
        for weight in weights:
            value = RNG.uniform(-1, 1, tuple(weight.shape))
            if len(weight.shape) == 1:
                value = 1 + value / 2
            if isinstance(weight, keras.Variable):
                weight.assign(value)
            elif weight.is_floating_point():
                weight.copy_(torch.as_tensor(value))


def snapshot(keras_model, torch_model):
    return [np.copy(w) for w in keras_model.get_weights()] + [
        t.detach().clone().numpy() for t in torch_model.state_dict().values()
    ]


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# ------------------------------------------------------------------------------ small networks


def dense_twins(units=3, features=4):
    """Two small networks with two layers each, and unlike weights."""
    keras_model = keras.Sequential(
        [keras.Input((features,)), layers.Dense(units, name="hidden"), layers.Dense(1, name="end")]
    )
    torch_model = nn.Sequential(nn.Linear(features, units), nn.Linear(units, 1))
    return keras_model, torch_model


def keras_net(*stack, shape=(4,)):
    return keras.Sequential([keras.Input(shape), *stack])


class Own(nn.Module):
    """A module with a parameter that belongs to none of its layers."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.linear = nn.Linear(4, 2)


class Subclassed(keras.Model):
    """A Keras model that is no graph: its layers don't know their inputs' shapes."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(3, 2)
        self.flatten = layers.Flatten()
        self.end = layers.Dense(2)

    def call(self, x):
        return self.end(self.flatten(self.conv(x)))


def frozen():
    model = nn.Linear(4, 2)
    model.bias.requires_grad_(False)
    return model


class Scaled(keras.Model):
    """A Keras model with a weight of its own, beside those of its layers."""

    def __init__(self):
        super().__init__()
        self.end = layers.Dense(2)
        self.scale = self.add_weight(name="scale", shape=(1,), initializer="ones")

    def call(self, x):
        return self.scale * self.end(x)


def scaled():
    model = Scaled()
    model(np.ones((1, 4), "float32"))
    return model


class Wider(nn.Linear):
    """A Linear with one parameter more."""

    def __init__(self):
        super().__init__(4, 2)
        self.extra = nn.Parameter(torch.ones(1))


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


def joined():
    x = keras.Input(PICTURE)
    both = layers.Concatenate(name="join")([layers.Flatten()(x), layers.Flatten()(x)])
    return keras.Model(x, layers.Dense(2)(both))


def attention(*args, **kwargs):
    x = keras.Input((3, 4))
    return keras.Model(x, layers.MultiHeadAttention(*args, name="look", **kwargs)(x, x))


def still(layer):
    layer.trainable = False
    return layer


def scaling(norm):
    norm.rms_scaling = True
    return norm


def freeze(module, all_but=""):
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name == all_but)
    return module


PICTURE = (4, 4, 2)
REFUSED = {
    "flattened pictures joined": (
        joined,
        lambda: nn.Linear(64, 2),
        "'join' .Concatenate. joins flattened pictures",
    ),
    "a weight outside Keras' layers": (
        scaled,
        lambda: nn.Linear(4, 2),
        "Keras weight '.*scale' belongs to no layer",
    ),
    "a parameter more in a layer": (
        lambda: keras_net(layers.Dense(2)),
        Wider,
        "PyTorch parameter 'extra' belongs to no layer",
    ),
    "shared in PyTorch only": (
        lambda: keras_net(layers.Dense(4), layers.Dense(4)),
        tied,
        "share one weight, in one of",
    ),
    "unknown layer": (
        lambda: keras_net(layers.Dense(2), layers.EinsumDense("ab,bc->ac", 3, name="sum")),
        lambda: nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3, bias=False)),
        "Keras layer 'sum' .EinsumDense. is of a kind that parity does not know",
    ),
    "layer that moves axes": (
        lambda: keras_net(layers.Permute((2, 1), name="turn"), layers.Dense(2), shape=(4, 4)),
        lambda: nn.Linear(4, 2),
        "'turn' .Permute. is of a kind",
    ),
    "unbuilt": (
        lambda: keras.Sequential([layers.Dense(2, name="raw")]),
        lambda: nn.Linear(4, 2),
        "'raw' .Dense. is not built: call the model on a batch first",
    ),
    "one layer too few in PyTorch": (
        lambda: keras_net(layers.Dense(2), layers.Dense(3, name="extra")),
        lambda: nn.Linear(4, 2),
        "'extra' .Dense. has no partner: PyTorch has 1 such",
    ),
    "one layer too few in Keras": (
        lambda: keras_net(layers.Dense(2)),
        lambda: nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2)),
        "PyTorch module '1' .Linear. has no partner: Keras has 1 such",
    ),
    "kinds that differ": (
        lambda: keras_net(layers.Conv2D(3, 2, name="look"), shape=PICTURE),
        lambda: nn.Linear(4, 2),
        "'look' .Conv2D. meets PyTorch module 'itself' .Linear.: it pairs with Conv2d",
    ),
    "shapes that differ": (
        lambda: keras_net(layers.Dense(2), layers.Dense(3, name="odd")),
        lambda: nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 5)),
        r"'odd' .Dense. has a kernel of shape \(2, 3\), in PyTorch's order \(3, 2\); "
        r"the weight of PyTorch module '1' .Linear. has shape \(5, 2\)",
    ),
    "a bias in PyTorch only": (
        lambda: keras_net(layers.Dense(2, use_bias=False, name="bare")),
        lambda: nn.Linear(4, 2),
        "has a bias, and Keras layer 'bare' .Dense. has no bias",
    ),
    "a bias in Keras only": (
        lambda: keras_net(layers.Dense(2, name="full")),
        lambda: nn.Linear(4, 2, bias=False),
        "'full' .Dense. has a bias, and PyTorch module 'itself' .Linear. has no bias",
    ),
    "no running statistics": (
        lambda: keras_net(layers.BatchNormalization(name="norm")),
        lambda: nn.BatchNorm1d(4, track_running_stats=False),
        "'norm' .BatchNormalization. has a moving_mean",
    ),
    "frozen in one": (
        lambda: keras_net(layers.Dense(2)),
        frozen,
        "the bias is frozen in one of the two only",
    ),
    "a parameter outside the layers": (
        lambda: keras_net(layers.Dense(2)),
        Own,
        "meets PyTorch module 'itself' .Own.",
    ),
    "layer norm over a picture": (
        lambda: keras_net(layers.LayerNormalization(name="norm"), shape=(4, 4, 4)),
        lambda: nn.LayerNorm(4),
        "'norm' .LayerNormalization. and .* normalise over different axes",
    ),
    "layer norm over another axis": (
        lambda: keras_net(layers.LayerNormalization(axis=1, name="norm"), shape=(4, 4)),
        lambda: nn.LayerNorm(4),
        "normalise over different axes",
    ),
    "batch norm over rows": (
        lambda: keras_net(layers.BatchNormalization(axis=1, name="norm"), shape=(4, 4, 4)),
        lambda: nn.BatchNorm2d(4),
        "normalise over different axes",
    ),
    "batch norm over a sequence": (
        lambda: keras_net(layers.BatchNormalization(name="norm"), shape=(4, 4)),
        lambda: nn.BatchNorm1d(4),
        "normalise over different axes",
    ),
    "batch norm of another rank": (
        lambda: keras_net(layers.BatchNormalization(name="norm")),
        lambda: nn.BatchNorm2d(4),
        "normalise over different axes",
    ),
    **{
        f"convolution: {case}": (
            lambda ours=ours: keras_net(layers.Conv2D(4, 2, name="look", **ours), shape=PICTURE),
            lambda theirs=theirs: nn.Conv2d(2, 4, 2, **theirs),
            sentence,
        )
        for case, ours, theirs, sentence in [
            ("strides", {"strides": 2}, {}, r"strides is \(2, 2\) in Keras, \(1, 1\) in PyTorch"),
            ("dilation", {}, {"dilation": 2}, r"dilation is \(1, 1\) in Keras, \(2, 2\) in"),
            ("groups", {"groups": 2}, {}, "groups is 2 in Keras, 1 in PyTorch"),
            ("padding", {}, {"padding_mode": "reflect"}, "padding_mode is zeros in Keras, reflect"),
        ]
    },
    "depthwise without groups": (
        lambda: keras_net(layers.DepthwiseConv2D(2, depth_multiplier=2), shape=PICTURE),
        lambda: nn.Conv2d(2, 4, 2),
        "groups is 2 in Keras, 1 in PyTorch",
    ),
    "separable with a bias between": (
        lambda: keras_net(layers.SeparableConv2D(3, 2), shape=PICTURE),
        lambda: nn.Sequential(nn.Conv2d(2, 2, 2, groups=2), nn.Conv2d(2, 3, 1)),
        "the first of PyTorch's two has a bias",
    ),
    "separable with one module": (
        lambda: keras_net(layers.SeparableConv2D(3, 2, name="two"), shape=PICTURE),
        lambda: nn.Conv2d(2, 2, 2, groups=2, bias=False),
        "'two' .SeparableConv2D. has no partner: PyTorch has 1 such",
    ),
    "separable with a wrong second": (
        lambda: keras_net(layers.SeparableConv2D(3, 2, name="two"), shape=PICTURE),
        lambda: nn.Sequential(nn.Conv2d(2, 2, 2, groups=2, bias=False), nn.Linear(2, 3)),
        "'two' .SeparableConv2D. meets PyTorch module '1' .Linear.: it pairs with Conv2d then Conv",
    ),
    "separable with strides in the second": (
        lambda: keras_net(layers.SeparableConv2D(3, 2), shape=PICTURE),
        lambda: nn.Sequential(
            nn.Conv2d(2, 2, 2, groups=2, bias=False), nn.Conv2d(2, 3, 1, stride=2)
        ),
        r"strides is \(1, 1\) in Keras, \(2, 2\) in PyTorch",
    ),
    "other groups to normalise": (
        lambda: keras_net(layers.GroupNormalization(2), shape=(4, 4, 4)),
        lambda: nn.GroupNorm(4, 4),
        "groups is 2 in Keras, 4 in PyTorch",
    ),
    "group norm over a sequence": (
        lambda: keras_net(layers.GroupNormalization(2, name="norm"), shape=(4, 4)),
        lambda: nn.GroupNorm(2, 4),
        "'norm' .GroupNormalization. and .* normalise over different axes",
    ),
    "group norm of a flattened picture": (
        lambda: keras_net(layers.Flatten(), layers.GroupNormalization(2), shape=PICTURE),
        lambda: nn.Sequential(nn.Flatten(), nn.GroupNorm(2, 32)),
        "the groups of a flattened picture hold other pixels",
    ),
    "rms norm over a picture": (
        lambda: keras_net(layers.RMSNormalization(), shape=(4, 4, 4)),
        lambda: nn.RMSNorm(4),
        "normalise over different axes",
    ),
    "layer norm by the root alone": (
        lambda: keras_net(scaling(layers.LayerNormalization())),
        lambda: nn.LayerNorm(4, bias=False),
        "rms_scaling is True in Keras, False in PyTorch",
    ),
    "a slope for each pixel": (
        lambda: keras_net(layers.PReLU(name="bent"), shape=(2, 2, 1)),
        lambda: nn.PReLU(4),
        r"Keras' slopes have shape \(2, 2, 1\), and PyTorch's belong to channels",
    ),
    "slopes along a sequence": (
        lambda: keras_net(layers.PReLU(shared_axes=[1]), shape=(4, 4)),
        lambda: nn.PReLU(4),
        r"Keras' slopes have shape \(1, 4\)",
    ),
    "a Conv1D that is flattened to other features": (
        lambda: keras_net(layers.Conv1D(2, 2), layers.Flatten(), layers.Dense(3), shape=(4, 2)),
        lambda: nn.Sequential(nn.Conv1d(2, 2, 2), nn.Flatten(), nn.Linear(8, 3)),
        r"kernel of shape \(6, 3\), in PyTorch's order \(3, 6\); .* has shape \(3, 8\)",
    ),
    **{
        f"{name} that PyTorch has not": (
            lambda kind=kind, given=given: keras_net(kind(2, name="rnn", **given), shape=(3, 4)),
            lambda twin=twin: twin(4, 2, batch_first=True),
            f"'rnn' .{kind.__name__}. and PyTorch module 'itself' .*: {sentence}",
        )
        for name, kind, twin, given, sentence in [
            (
                "LSTM's activation",
                layers.LSTM,
                nn.LSTM,
                {"activation": "relu"},
                "activation is relu in Keras, tanh in PyTorch",
            ),
            (
                "GRU's gate",
                layers.GRU,
                nn.GRU,
                {"recurrent_activation": "hard_sigmoid"},
                "recurrent_activation is hard_sigmoid in Keras, sigmoid in PyTorch",
            ),
            (
                "SimpleRNN's activation",
                layers.SimpleRNN,
                nn.RNN,
                {"activation": "relu"},
                "activation is relu in Keras, tanh in PyTorch",
            ),
            (
                "reset",
                layers.GRU,
                nn.GRU,
                {"reset_after": False},
                "a GRU with reset_after=False computes another formula",
            ),
            ("dropout", layers.LSTM, nn.LSTM, {"dropout": 0.5}, "dropout is 0.5 in Keras, 0.0"),
            (
                "recurrent dropout",
                layers.GRU,
                nn.GRU,
                {"recurrent_dropout": 0.5},
                "recurrent_dropout is 0.5 in Keras, 0.0",
            ),
            ("way", layers.LSTM, nn.LSTM, {"go_backwards": True}, "go_backwards is True in Keras"),
        ]
    },
    "an LSTM with a memory between batches": (
        lambda: keras.Sequential(
            [keras.Input(batch_shape=(2, 3, 4)), layers.LSTM(2, stateful=True)]
        ),
        lambda: nn.LSTM(4, 2),
        "stateful is True in Keras, False in PyTorch",
    ),
    "LSTMs in one": (
        lambda: keras_net(layers.LSTM(2, return_sequences=True), layers.LSTM(2), shape=(3, 4)),
        lambda: nn.LSTM(4, 2, num_layers=2),
        "'itself' .LSTM. has 2 layers in one: make it 2 modules of one layer",
    ),
    "an LSTM that projects": (
        lambda: keras_net(layers.LSTM(2), shape=(3, 4)),
        lambda: nn.LSTM(4, 2, proj_size=1),
        "proj_size is 0 in Keras, 1 in PyTorch",
    ),
    "both ways in PyTorch only": (
        lambda: keras_net(layers.LSTM(2), shape=(3, 4)),
        lambda: nn.LSTM(4, 2, bidirectional=True),
        "bidirectional is False in Keras, True in PyTorch",
    ),
    "both ways in Keras only": (
        lambda: keras_net(layers.Bidirectional(layers.GRU(2)), shape=(3, 4)),
        lambda: nn.GRU(4, 2),
        "bidirectional is True in Keras, False in PyTorch",
    ),
    "both ways, of another kind": (
        lambda: keras_net(layers.Bidirectional(layers.GRU(2)), shape=(3, 4)),
        lambda: nn.LSTM(4, 2, bidirectional=True),
        "Keras' is a GRU inside, PyTorch's is not",
    ),
    "an LSTM and a GRU": (
        lambda: keras_net(layers.LSTM(2, name="rnn"), shape=(3, 4)),
        lambda: nn.GRU(4, 2),
        "'rnn' .LSTM. meets PyTorch module 'itself' .GRU.: it pairs with LSTM",
    ),
    "a bias in the LSTM of PyTorch only": (
        lambda: keras_net(layers.LSTM(2, use_bias=False, name="rnn"), shape=(3, 4)),
        lambda: nn.LSTM(4, 2),
        "has a bias_ih_l0, and Keras layer 'rnn' .LSTM. has no cell.bias",
    ),
    "a second bias that learns beside a frozen one": (
        lambda: keras_net(still(layers.LSTM(2)), shape=(3, 4)),
        lambda: freeze(nn.LSTM(4, 2), all_but="bias_hh_l0"),
        "the cell.bias is frozen in one of the two only",
    ),
    "an unknown layer that holds a known one": (
        lambda: keras_net(layers.TimeDistributed(layers.Dense(2), name="each"), shape=(3, 4)),
        lambda: nn.Linear(4, 2),
        "'each' .TimeDistributed. is of a kind",
    ),
    **{
        f"attention: {case}": (
            lambda ours=ours: attention(**{"num_heads": 2, "key_dim": 2} | ours),
            lambda theirs=theirs: nn.MultiheadAttention(4, **{"num_heads": 2} | theirs),
            f"'look' .MultiHeadAttention. and PyTorch module 'itself' .*: {sentence}",
        )
        for case, ours, theirs, sentence in [
            # The weights of 2 heads of 2 and 1 of 4 have the same sizes, and mean other things.
            ("heads", {"num_heads": 1, "key_dim": 4}, {}, "num_heads is 1 in Keras, 2 in PyTorch"),
            ("size", {"key_dim": 3}, {}, "key_dim is 3 in Keras, 2 in PyTorch"),
            ("values", {"value_dim": 3}, {}, "value_dim is 3 in Keras, 2 in PyTorch"),
            ("a key more", {}, {"add_bias_kv": True}, "add_bias_kv is False in Keras, True"),
            ("a zero more", {}, {"add_zero_attn": True}, "add_zero_attn is False in Keras, True"),
            ("a gate", {"use_gate": True}, {}, "use_gate is True in Keras, False"),
            ("a window", {"sliding_window": 2}, {}, "sliding_window is 2 in Keras, None"),
        ]
    },
    "attention that ends in other features": (
        lambda: attention(2, 2, output_shape=3),
        lambda: nn.MultiheadAttention(4, 2),
        r"has a output_dense.kernel of shape \(2, 2, 3\), in PyTorch's order \(3, 4\); the "
        r"out_proj.weight of .* has shape \(4, 4\)",
    ),
    "two Keras models": (
        lambda: keras_net(layers.Dense(2)),
        lambda: keras_net(layers.Dense(2)),
        "is no model made with torch.nn",
    ),
    "two PyTorch models": (lambda: nn.Linear(4, 2), lambda: nn.Linear(4, 2), "is no Keras model"),
    "no model at all": (lambda: keras_net(layers.Dense(2)), lambda: [1], "is no model made with"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusal_names_the_layer_and_changes_nothing(case):
    make_keras, make_torch, sentence = REFUSED[case]
    ours, theirs = make_keras(), make_torch()
    models = [m for m in (ours, theirs) if isinstance(m, nn.Module)]
    before = [t.detach().clone() for m in models for t in m.state_dict().values()]
    for use in (
        lambda: parity.copy_weights(ours, theirs),
        lambda: parity.copy_weights(theirs, ours),
        lambda: parity.compare(ours, theirs, np.ones((2, 4), "float32")),
    ):
        with pytest.raises(ParityError, match=sentence if "two" not in case else "is no") as error:
            use()
        assert str(error.value).endswith(".")
    after = [t for m in models for t in m.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_late_refusal_has_not_copied_the_layers_before():
    ours, theirs = dense_twins()
    wrong = nn.Sequential(theirs[0], nn.Linear(3, 2))
    before = snapshot(ours, wrong)
    for source in ((ours, wrong), (wrong, ours)):
        with pytest.raises(ParityError, match="'end'"):
            parity.copy_weights(*source)
    assert same(before, snapshot(ours, wrong))


# ------------------------------------------------------------------------------------ copying


def test_a_square_kernel_is_transposed():
    ours, theirs = keras_net(layers.Dense(4)), nn.Linear(4, 4)
    parity.copy_weights(ours, theirs)
    kernel = ours.layers[-1].kernel.numpy()
    assert np.array_equal(theirs.weight.detach().numpy(), kernel.T)
    assert not np.array_equal(theirs.weight.detach().numpy(), kernel)


def test_there_and_back_is_exact():
    ours = keras_net(layers.Conv2D(3, 2), layers.Flatten(), layers.Dense(2), shape=PICTURE)
    theirs = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(27, 2))
    randomise(ours.weights)
    before = ours.get_weights()
    parity.copy_weights(ours, theirs)
    randomise(ours.weights)
    assert not same(before, ours.get_weights())
    parity.copy_weights(theirs, ours)
    assert same(before, ours.get_weights())


class Heads(nn.Module):
    """Two layers that read one flattened picture, and a third that reads both."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.end = nn.Linear(32, 3), nn.Linear(32, 3), nn.Linear(6, 2)

    def forward(self, x):
        x = x.flatten(1)
        return self.end(torch.cat([self.left(x), self.right(x)], 1))


def heads():
    x = keras.Input(PICTURE)
    flat = layers.Flatten()(x)
    both = [layers.Dense(3)(flat), layers.Dense(3)(layers.Dropout(0.0)(flat))]
    return keras.Model(x, layers.Dense(2)(layers.Concatenate()(both)))


class Lone(keras.Model):
    """A Keras model that flattens pictures which it has not convolved."""

    def __init__(self):
        super().__init__()
        self.flatten = layers.Flatten()
        self.end = layers.Dense(2)

    def call(self, x):
        return self.end(self.flatten(x))


@pytest.mark.parametrize(
    "case",
    ["graph", "subclass", "channels first", "flatten alone", "nested", "twice", "heads", "lone"],
)
def test_the_flatten_between(case):
    """Forward by the framework's own hand, without `compare`: the order is right."""
    shape = PICTURE
    theirs = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(27, 2))
    x = RNG.normal(size=(5, *shape)).astype("float32")
    chw = torch.as_tensor(x).permute(0, 3, 1, 2)
    given_x = x
    if case == "graph":
        ours = keras_net(layers.Conv2D(3, 2), layers.Flatten(), layers.Dense(2), shape=shape)
    elif case == "nested":
        head = keras_net(layers.Flatten(), layers.Dense(2), shape=(3, 3, 3))
        ours = keras_net(layers.Conv2D(3, 2), head, shape=shape)
    elif case == "subclass":
        ours = Subclassed()
        ours(x)
    elif case == "channels first":
        given_x = chw.numpy()
        ours = keras_net(
            layers.Conv2D(3, 2, data_format="channels_first"),
            layers.Flatten(),
            layers.Dense(2),
            shape=(2, 4, 4),
        )
    elif case == "heads":
        ours, theirs = heads(), Heads()
    elif case == "twice":
        stack = layers.Conv2D(3, 2), layers.Flatten(), layers.Dropout(0.0), layers.Flatten()
        ours = keras_net(*stack, layers.Dense(2), shape=shape)
    else:
        ours = keras_net(layers.Flatten(), layers.Dense(2), shape=shape)
        theirs = nn.Sequential(nn.Flatten(), nn.Linear(32, 2))
        if case == "lone":
            ours = Lone()
            ours(x)
    parity.copy_weights(ours, theirs)
    with torch.no_grad():
        difference = (ours(given_x) - theirs(chw)).abs().max().item()
    assert difference < 1e-5  # 27 products of size 1, each rounded to 6e-8
    report = parity.compare(ours, theirs, given_x)
    assert report.ok, report


class Residual(nn.Module):
    """A way round the convolution, along a sequence: the sum is flattened."""

    def __init__(self):
        super().__init__()
        self.look, self.end = nn.Conv1d(2, 2, 3, padding=1), nn.Linear(8, 3)

    def forward(self, x):
        return self.end((x + self.look(x)).flatten(1))


@pytest.mark.parametrize("plus", ["+", "Add"])
def test_a_flattened_sum_of_sequences(plus):
    x = keras.Input((4, 2))
    seen = layers.Conv1D(2, 3, padding="same")(x)
    seen = seen + x if plus == "+" else layers.Add()([seen, x])
    ours, theirs = keras.Model(x, layers.Dense(3)(layers.Flatten()(seen))), Residual()
    parity.copy_weights(ours, theirs)
    report = parity.compare(ours, theirs, RNG.normal(size=(5, 4, 2)))
    assert report.ok, report


def test_without_the_reordering_the_networks_differ(monkeypatch):
    ours = keras_net(layers.Conv2D(3, 2), layers.Flatten(), layers.Dense(2), shape=PICTURE)
    theirs = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(27, 2))
    monkeypatch.setattr(kinds, "_channels_first", lambda value, channels: value)
    parity.copy_weights(ours, theirs)
    assert not parity.compare(ours, theirs, RNG.normal(size=(5, *PICTURE)).astype("float32")).ok


def test_flattened_channels_first_comes_out_channels_last():
    """Keras' Flatten(data_format="channels_first") turns its input round before it flattens."""
    ours = keras_net(
        layers.Conv2D(3, 2, data_format="channels_first"),
        layers.Flatten(data_format="channels_first"),
        layers.Dense(2),
        shape=(2, 4, 4),
    )
    theirs = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(27, 2))
    parity.copy_weights(ours, theirs)
    report = parity.compare(ours, theirs, RNG.normal(size=(5, 2, 4, 4)).astype("float32"))
    assert report.ok, report


# --------------------------------------------- a third opinion: the formulas, in NumPy, by loops


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def lstm_formula(x, kernel, recurrent, bias):
    """The four gates in Keras' order: in, forget, candidate, out."""
    h = c = np.zeros(len(recurrent))
    for now in x:
        i, f, g, o = np.split(now @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def gru_formula(x, kernel, recurrent, bias):
    """Keras' order: update z, reset r, candidate; the reset comes after the product."""
    h = np.zeros(len(recurrent))
    for now in x:
        z, r, g = np.split(now @ kernel + bias[0], 3)
        z_h, r_h, g_h = np.split(h @ recurrent + bias[1], 3)
        z, r = sigmoid(z + z_h), sigmoid(r + r_h)
        h = z * h + (1 - z) * np.tanh(g + r * g_h)
    return h


def attention_formula(x, *weights):
    """Head by head: its share of the output is added up."""
    q_w, q_b, k_w, k_b, v_w, v_b, out_w, out_b = weights
    total = np.zeros((len(x), out_w.shape[-1])) + out_b
    for head in range(q_w.shape[1]):
        q, k, v = (x @ w[:, head] + b[head] for w, b in ((q_w, q_b), (k_w, k_b), (v_w, v_b)))
        scores = np.exp(q @ k.T / np.sqrt(q.shape[1]))
        total += scores / scores.sum(axis=1, keepdims=True) @ v @ out_w[head]
    return total


def transposed_formula(x, kernel, bias):
    """Each pixel stamps the kernel (height, width, out, in) onto the output, two steps apart."""
    high, wide, _ = x.shape
    out = np.zeros((2 * high + 1, 2 * wide + 1, kernel.shape[2])) + bias
    for i in range(high):
        for j in range(wide):
            out[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += kernel @ x[i, j]
    return out


def separable_formula(x, depth, point, bias):
    """Each channel has its own small filters; then each pixel is a vector like any other."""
    size, _, channels, many = depth.shape
    high, wide = x.shape[0] - size + 1, x.shape[1] - size + 1
    middle = np.zeros((high, wide, channels * many))
    for i in range(high):
        for j in range(wide):
            for c in range(channels):
                for m in range(many):
                    window = x[i : i + size, j : j + size, c]
                    middle[i, j, c * many + m] = (window * depth[:, :, c, m]).sum()
    return middle @ point[0, 0] + bias


class Outcome(nn.Module):
    """One of the things that a module returns."""

    def __init__(self, module, pick):
        super().__init__()
        self.module, self.pick = module, pick

    def forward(self, x):
        return self.pick(self.module, x)


FORMULAS = {
    "LSTM": (
        lambda: keras_net(layers.LSTM(3), shape=(5, 2)),
        lambda: Outcome(nn.LSTM(2, 3, batch_first=True), lambda rnn, x: rnn(x)[1][0][0]),
        lstm_formula,
    ),
    "GRU": (
        lambda: keras_net(layers.GRU(3), shape=(5, 2)),
        lambda: Outcome(nn.GRU(2, 3, batch_first=True), lambda rnn, x: rnn(x)[1][0]),
        gru_formula,
    ),
    "attention": (
        lambda: attention(2, 2),
        lambda: Outcome(nn.MultiheadAttention(4, 2, batch_first=True), lambda m, x: m(x, x, x)[0]),
        attention_formula,
    ),
    "transposed": (
        lambda: keras_net(layers.Conv2DTranspose(3, 3, 2), shape=PICTURE),
        lambda: nn.ConvTranspose2d(2, 3, 3, 2),
        transposed_formula,
    ),
    "separable": (
        lambda: keras_net(layers.SeparableConv2D(3, 2, depth_multiplier=2), shape=PICTURE),
        lambda: nn.Sequential(nn.Conv2d(2, 4, 2, groups=2, bias=False), nn.Conv2d(4, 3, 1)),
        separable_formula,
    ),
}


@pytest.mark.parametrize("forth", [True, False], ids=["from Keras", "from PyTorch"])
@pytest.mark.parametrize("kind", FORMULAS)
def test_both_frameworks_give_what_the_formula_gives(kind, forth):
    """With Keras' weights in the formula: 1e-13 is a thousand roundings of values near 1."""
    make_keras, make_torch, formula = FORMULAS[kind]
    with parity.float64():
        ours, theirs = make_keras(), make_torch()
        randomise(ours.weights)
        randomise(theirs.parameters())
        parity.copy_weights(*((ours, theirs) if forth else (theirs, ours)))
        x = RNG.normal(size=(3, *ours.input_shape[1:]))
        expected = np.stack([formula(example, *ours.get_weights()) for example in x])
        picture = x.ndim == 4
        batch = torch.as_tensor(x)
        with torch.no_grad():
            said = ours(x), theirs(batch.permute(0, 3, 1, 2) if picture else batch)
        said = said[0].numpy(), (said[1].permute(0, 2, 3, 1) if picture else said[1]).numpy()
    for outputs in said:
        assert abs(outputs - expected).max() < 1e-13 * max(1, abs(expected).max())


def test_the_parts_of_a_weight_add_up_to_it():
    """Each number of attention's packed weights and of a GRU's biases belongs to one pair."""
    for ours, theirs in (
        (attention(2, 2), nn.MultiheadAttention(4, 2)),
        (keras_net(layers.GRU(3), shape=(5, 2)), nn.GRU(2, 3)),
    ):
        counts = {name: torch.zeros_like(p) for name, p in theirs.named_parameters()}
        pairs = parity.pair(ours, theirs)
        for p in pairs:
            (name,) = (name for name, t in theirs.named_parameters() if t is p.tensor)
            counts[name][p.rows] += 1
            value = torch.rand(p.in_keras.shape)
            assert torch.equal(p.to_keras(p.to_torch(value)), value)
        assert all((count == 1).all() for count in counts.values())
    assert [p.name for p in pairs] == [
        f"{ours.layers[-1].name}.cell.{key} ~ itself.{twin}_l0"
        for key, twin in [
            ("kernel", "weight_ih"),
            ("recurrent_kernel", "weight_hh"),
            ("bias[0]", "bias_ih"),
            ("bias[1]", "bias_hh"),
        ]
    ]


def test_projections_of_other_sizes_are_paired_too():
    """Query, key and value of three sizes: PyTorch then keeps three weights."""
    with parity.float64():
        q, k, v = (keras.Input((3, size)) for size in (4, 5, 6))
        ours = keras.Model([q, k, v], layers.MultiHeadAttention(2, 2)(q, v, k))
        theirs = nn.MultiheadAttention(4, 2, kdim=5, vdim=6, batch_first=True)
        randomise(ours.weights)
        parity.copy_weights(ours, theirs)
        x = [RNG.normal(size=(2, 3, size)) for size in (4, 5, 6)]
        with torch.no_grad():
            gap = ours(x) - theirs(*map(torch.as_tensor, x))[0]
        assert gap.abs().max() < 1e-13 * 10


@pytest.mark.parametrize("kind", ["lstm", "rnn"])
def test_two_biases_in_pytorch_are_one_in_keras(kind):
    """Keras gets their sum. PyTorch gets Keras' in the first, and 0 in the second."""
    with parity.float64():
        ours = keras_net((layers.LSTM if kind == "lstm" else layers.SimpleRNN)(3), shape=(5, 2))
        theirs = (nn.LSTM if kind == "lstm" else nn.RNN)(2, 3, batch_first=True)
        randomise(theirs.parameters())
        parity.copy_weights(theirs, ours)
        total = (theirs.bias_ih_l0 + theirs.bias_hh_l0).detach().numpy()
        assert np.array_equal(ours.layers[-1].cell.bias.numpy(), total)
        parity.copy_weights(ours, theirs)
        assert np.array_equal(theirs.bias_ih_l0.detach().numpy(), total)
        assert not theirs.bias_hh_l0.any()


@pytest.mark.parametrize("frozen", [True, False])
def test_a_second_bias_must_be_frozen_to_train_alike(frozen):
    """Both get the same gradient, so two that learn go twice as far as Keras' one."""
    with parity.float64():
        ours = keras_net(layers.LSTM(3), layers.Dense(1), shape=(5, 2))
        rnn = Outcome(nn.LSTM(2, 3, batch_first=True), lambda rnn, x: rnn(x)[1][0][0])
        theirs = nn.Sequential(rnn, nn.Linear(3, 1))
        randomise(theirs.parameters())
        parity.copy_weights(theirs, ours)  # frozen or not, the second is not 0
        rnn.module.bias_hh_l0.requires_grad_(not frozen)
        x, y = RNG.normal(size=(8, 5, 2)), RNG.normal(size=(8, 1))
        pair = keras.optimizers.SGD(0.01), torch.optim.SGD(theirs.parameters(), lr=0.01)
        report = parity.compare(ours, theirs, x, y, loss=mse(), optimizers=pair, steps=1)
        bias = [row for row in report.rows if "bias_ih_l0 + bias_hh_l0" in row.name]
        assert [row.ok for row in bias] == [True, frozen]  # its gradient; it, after a step
        assert report.ok == frozen
        remark = "one bias learns in Keras and two in PyTorch, which go twice as far"
        assert (remark in str(report)) == (not frozen)


def test_gru_and_attention_train_alike_as_they_are():
    with parity.float64():
        x = keras.Input((5, 4))
        seen = layers.MultiHeadAttention(2, 2)(x, x)
        ours = keras.Model(x, layers.GRU(3)(seen))
        theirs = nn.Sequential(
            Outcome(nn.MultiheadAttention(4, 2, batch_first=True), lambda m, x: m(x, x, x)[0]),
            Outcome(nn.GRU(4, 3, batch_first=True), lambda rnn, x: rnn(x)[1][0]),
        )
        randomise(ours.weights)
        parity.copy_weights(ours, theirs)
        data = RNG.normal(size=(8, 5, 4)), RNG.normal(size=(8, 3))
        report = parity.compare(
            ours, theirs, *data, loss=mse(), optimizers=sgd(theirs, lr=0.01), steps=20,
            tolerance=1e-10,
        )  # fmt: skip
        assert report.ok, report


def test_a_bare_recurrent_module_is_copied_but_not_compared():
    ours, theirs = keras_net(layers.LSTM(3), shape=(5, 2)), nn.LSTM(2, 3, batch_first=True)
    parity.copy_weights(ours, theirs)
    refuse_compare(
        "give a module whose forward returns what Keras", ours, theirs, np.ones((1, 5, 2))
    )


def test_dropout_inside_attention_is_off_while_they_are_compared():
    """To 1e-10: the bias of the keys has a gradient of 0, and both frameworks give rounding."""
    with parity.float64():
        ours, bare = attention(2, 2, dropout=0.5), nn.MultiheadAttention(4, 2, batch_first=True)
        theirs = Outcome(bare, lambda m, x: m(x, x, x)[0])
        parity.copy_weights(ours, theirs)
        x, y = RNG.normal(size=(8, 3, 4)), RNG.normal(size=(8, 3, 4))
        refuse_compare(r"rates are \[0.5\] in Keras and \[\] in PyTorch", ours, theirs, x)
        bare.dropout = 0.5
        report = parity.compare(ours, theirs, x, y, loss=mse(), tolerance=1e-10)
        assert report.ok, report
        assert bare.dropout == 0.5 and ours.layers[-1]._dropout_layer.rate == 0.5


@pytest.mark.parametrize("name", ["causal", "causal, but not padded"])
def test_a_causal_convolution_is_padded_by_hand(name):
    """PyTorch has none: two zeros go before, and then it is the same."""
    ours = keras_net(layers.Conv1D(4, 3, padding="causal"), shape=(4, 2))
    theirs = nn.Conv1d(2, 4, 3, padding="same" if "not" in name else 0)
    if "not" not in name:
        theirs = nn.Sequential(nn.ConstantPad1d((2, 0), 0.0), theirs)
    parity.copy_weights(ours, theirs)
    assert parity.compare(ours, theirs, RNG.normal(size=(3, 4, 2))).ok == ("not" not in name)


class Turned(nn.Module):
    """A PyTorch model that keeps (length, features) and turns its sequence for a Conv1d alone."""

    def __init__(self):
        super().__init__()
        self.words, self.look = nn.Embedding(7, 2), nn.Conv1d(2, 4, 3)

    def forward(self, x):
        return self.look(self.words(x).mT).mT


def test_a_sequence_that_pytorch_turns_back_itself_is_left_as_it_is():
    ours = keras_net(layers.Embedding(7, 2), layers.Conv1D(4, 3), shape=(5,))
    theirs = Turned()
    parity.copy_weights(ours, theirs)
    report = parity.compare(ours, theirs, RNG.integers(0, 7, (3, 5)))
    assert report.ok, report


# ---------------------------------------------------------------------------------- comparing


def sgd(theirs, ours=0.9, lr=0.1):
    return (
        keras.optimizers.SGD(lr, momentum=ours),
        torch.optim.SGD(theirs.parameters(), lr=lr, momentum=0.9),
    )


def batch(n=8, features=4):
    x = RNG.normal(size=(n, features))
    return x, RNG.normal(size=(n, 1))


def test_training_is_compared_and_a_wrong_momentum_seen():
    with parity.float64():
        ours, theirs = dense_twins()
        parity.copy_weights(ours, theirs)
        x, y = batch()
        pair = sgd(theirs, lr=0.01)
        good = parity.compare(ours, theirs, x, y, loss=mse(), optimizers=pair, steps=20)
        assert good.ok, good
        assert len(good.rows) == 1 + 1 + 4 + 1 + 4  # outputs, loss, gradients, losses, weights
        pair = sgd(theirs, 0.89, lr=0.01)
        bad = parity.compare(ours, theirs, x, y, loss=mse(), optimizers=pair, steps=20)
        assert [row.ok for row in bad.rows[:6]] == [True] * 6
        assert not any(row.ok for row in bad.rows[6:])
        assert "after" in bad.worst.name or "steps" in bad.worst.name


def test_steps_take_consecutive_batches():
    """By hand: the weight of y = wx after three steps on batches of two out of five examples."""
    with parity.float64():
        ours = keras_net(layers.Dense(1, use_bias=False), shape=(1,))
        theirs = nn.Linear(1, 1, bias=False)
        ours.layers[-1].kernel.assign([[0.5]])
        parity.copy_weights(ours, theirs)
        x, y = batch(5, 1)
        pair = keras.optimizers.SGD(0.1), torch.optim.SGD(theirs.parameters(), lr=0.1)
        report = parity.compare(
            ours, theirs, x, y, loss=mse(), optimizers=pair, steps=4, batch_size=2
        )
        w = 0.5
        for part in (slice(0, 2), slice(2, 4), slice(4, 6), slice(1, 3)):
            w -= 0.1 * np.mean(2 * (w * x[part] - y[part]) * x[part])
        assert report.ok and abs(report.rows[-1].size - abs(w)) < 1e-12


def test_settings_that_differ_are_named():
    ours = keras_net(layers.BatchNormalization(name="norm"))
    theirs = nn.BatchNorm1d(4)
    parity.copy_weights(ours, theirs)
    x = RNG.normal(size=(8, 4)).astype("float32") / 10
    report = parity.compare(ours, theirs, x)
    assert not report.ok
    assert "norm: epsilon is 0.001 in Keras, 1e-05 in PyTorch." in str(report)
    assert "norm: momentum (what is kept) is 0.99 in Keras, 0.9 in PyTorch." in str(report)


def test_the_running_variance_of_the_two_frameworks_is_shown_to_differ():
    """Keras divides by N, PyTorch by N - 1: with all settings equal this row alone is no."""
    with parity.float64():
        ours = keras_net(layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="norm"))
        theirs = nn.BatchNorm1d(4)
        parity.copy_weights(ours, theirs)
        x, y = batch(8)[0], batch(8, 4)[0]
        report = parity.compare(ours, theirs, x, y, loss=mse(), optimizers=sgd(theirs), steps=1)
        wrong = [row for row in report.rows if not row.ok]
        assert [row.name for row in wrong] == [
            "norm.moving_variance ~ itself.running_var after 1 step"
        ]
        variance = x.var(axis=0)
        gap = (0.1 * variance * (8 / 7 - 1)).max()
        expected = gap / (0.9 + 0.1 * variance * 8 / 7).max()
        assert abs(wrong[0].difference - expected) < 1e-12


def test_embedding_rows_that_never_learn_are_named():
    ours = keras_net(layers.Embedding(5, 2, name="words"), layers.Flatten(), shape=(3,))
    theirs = nn.Sequential(nn.Embedding(5, 2, padding_idx=0), nn.Flatten())
    parity.copy_weights(ours, theirs)
    report = parity.compare(ours, theirs, np.zeros((2, 3), int), np.ones((2, 6)), loss=mse())
    assert report.rows[0].ok and not report.ok
    assert "words: a row that never learns is None in Keras, 0 in PyTorch." in report.remarks


def test_what_a_recurrent_layer_may_do_in_silence_is_named():
    """Keras leaves out index 0 where it is told to; PyTorch may take a batch for a sequence."""
    words = layers.Embedding(5, 2, mask_zero=True, name="words")
    ours = keras_net(words, layers.GRU(2, name="read"), shape=(3,))
    rnn = Outcome(nn.GRU(2, 2), lambda rnn, x: rnn(x)[0][:, -1])
    theirs = nn.Sequential(nn.Embedding(5, 2), rnn)
    parity.copy_weights(ours, theirs)
    report = parity.compare(ours, theirs, RNG.integers(0, 5, (3, 3)))
    assert not report.ok
    assert "words: masking of index 0 is True in Keras, False in PyTorch." in report.remarks
    assert "read: batch first is True in Keras, False in PyTorch." in report.remarks


def test_nan_is_never_equal():
    ours, theirs = dense_twins()
    theirs[0].weight.data[0, 0] = float("nan")
    parity.copy_weights(theirs, ours)  # now both give nan
    x, y = batch()
    report = parity.compare(ours, theirs, x, y, loss=mse())
    assert not report.ok and report.worst.difference != report.worst.difference
    assert "DIFFERENT" in str(report)


def test_nothing_is_left_changed():
    """Weights, statistics, modes, gradients, dropout and optimisers, after yes and after no."""
    ours = keras_net(layers.Dense(3), layers.BatchNormalization(), layers.Dropout(0.5))
    theirs = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    theirs[0].eval()
    theirs[0].weight.grad = torch.ones(3, 4)
    pair = sgd(theirs)
    pair[1].step()  # it carries a velocity now
    velocity = pair[1].state[theirs[0].weight]["momentum_buffer"].clone()
    parity.copy_weights(ours, theirs)
    before = snapshot(ours, theirs)
    x, y = batch()[0], batch(8, 3)[0]

    def broken(*_):
        raise ZeroDivisionError

    first = parity.compare(ours, theirs, x, y, loss=mse(), optimizers=pair, steps=3)
    with pytest.raises(ZeroDivisionError):
        parity.compare(ours, theirs, x, y, loss=(mse()[0], broken), optimizers=pair, steps=3)
    second = parity.compare(ours, theirs, x, y, loss=mse(), optimizers=pair, steps=3)
    assert str(first) == str(second)
    assert same(before, snapshot(ours, theirs))
    assert [m.training for m in theirs] == [False, True, True] and theirs.training
    assert torch.equal(theirs[0].weight.grad, torch.ones(3, 4)) and theirs[0].bias.grad is None
    assert ours.layers[-1].rate == 0.5 and theirs[2].p == 0.5
    assert torch.equal(pair[1].state[theirs[0].weight]["momentum_buffer"], velocity)
    assert not pair[0].built


def no_mean(y, p):
    return (y - p) ** 2


def refuse_compare(message, ours=None, theirs=None, x=None, y=None, **kwargs):
    with pytest.raises(ParityError, match=message):
        parity.compare(ours, theirs, x, y, **kwargs)


def test_compare_refuses_in_words():
    ours, theirs = dense_twins()
    x, y = batch()
    loss, half = mse(), torch.optim.SGD(theirs[0].parameters(), lr=0.1)
    refuse_compare("no weights", keras_net(layers.ReLU()), nn.ReLU(), x)
    refuse_compare("at least one example", ours, theirs, x[:0])
    pair = sgd(theirs)
    refuse_compare("give a loss and an optimiser", ours, theirs, x, y, loss=loss, steps=3)
    refuse_compare("and steps", ours, theirs, x, y, loss=loss, optimizers=pair)
    refuse_compare("and steps", ours, theirs, x, y, loss=loss, optimizers=pair, steps=-1)
    refuse_compare("give a loss", ours, theirs, x, y, optimizers=pair, steps=1)
    refuse_compare("give the labels y", ours, theirs, x, loss=loss)
    refuse_compare(
        "does not hold the weight end.kernel", ours, theirs, x, y,
        loss=loss, optimizers=(keras.optimizers.SGD(), half), steps=1,
    )  # fmt: skip
    refuse_compare("must be one number", ours, theirs, x, y, loss=(no_mean, loss[1]))
    refuse_compare("build both models with the same dtype", ours, dense_twins()[1].double(), x)
    flat = nn.Sequential(*theirs, nn.Flatten(0))
    refuse_compare(r"shape \(8, 1\) in Keras and \(8,\) in PyTorch", ours, flat, x)


def test_dropout_that_differs_is_refused_though_it_is_off():
    ours = keras_net(layers.Dense(3), layers.Dropout(0.9))
    theirs = nn.Linear(4, 3)
    parity.copy_weights(ours, theirs)
    refuse_compare(r"rates are \[0.9\] in Keras and \[\] in PyTorch", ours, theirs, batch()[0])
    nothing = nn.Sequential(theirs, nn.Dropout(0.0))
    refuse_compare(r"rates are \[0.9\] in Keras and \[\] in PyTorch", ours, nothing, batch()[0])
    assert parity.compare(ours, nn.Sequential(theirs, nn.Dropout(0.9)), batch()[0]).ok


def test_a_penalty_counts_as_it_does_in_fit():
    ours = keras_net(layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.5)))
    theirs = nn.Linear(4, 1)
    parity.copy_weights(ours, theirs)
    x, y = batch()
    assert not parity.compare(ours, theirs, x, y, loss=mse()).ok

    def penalised(p, y):
        return nn.functional.mse_loss(p, y) + 0.5 * (theirs.weight**2).sum()

    report = parity.compare(ours, theirs, x, y, loss=(mse()[0], penalised))
    assert report.ok, report


def test_weight_decay_that_spares_the_biases_is_kept():
    """In float64: in float32 Adam magnifies rounding, up to 3e-4 in 150 random starts.

    What is left there, at most 1e-8 in as many, comes of where each framework puts epsilon and of
    its bias correction. A bias that is decayed by mistake is off by more than a hundredth.
    """
    with parity.float64():
        ours, theirs = keras_net(layers.Dense(1)), nn.Linear(4, 1)
        randomise(ours.weights)
        parity.copy_weights(ours, theirs)
        x, y = batch()
        decay = keras.optimizers.AdamW(0.1, weight_decay=0.5, epsilon=1e-12)
        decay.exclude_from_weight_decay(var_names=["bias"])
        groups = [{"params": [theirs.weight]}, {"params": [theirs.bias], "weight_decay": 0.0}]
        for theirs_too, equal in ((groups, True), (theirs.parameters(), False)):
            pair = decay, torch.optim.AdamW(theirs_too, lr=0.1, weight_decay=0.5, eps=1e-12)
            report = parity.compare(
                ours, theirs, x, y, loss=mse(), optimizers=pair, steps=5, tolerance=1e-6
            )
            assert report.ok is equal, report
        assert report.worst.difference > 0.01


def test_small_networks_are_compared_as_strictly_as_large_ones():
    """All weights a millionth of a millionth, one layer with its sign turned: that is no zero."""
    with parity.float64():
        ours, theirs = dense_twins()
        ours.set_weights([1e-12 * w for w in ours.get_weights()])
        parity.copy_weights(ours, theirs)
        x, y = batch()
        assert parity.compare(ours, theirs, x, y, loss=mse()).ok
        with torch.no_grad():
            theirs[1].weight *= -1
        report = parity.compare(ours, theirs, x, y, loss=mse())
        assert not report.rows[0].ok and not report.ok


def test_what_should_be_zero_may_be_rounding():
    """A bias before BatchNormalization has no gradient: both frameworks give rounding instead."""
    with parity.float64():
        ours = keras_net(layers.Dense(3), layers.BatchNormalization(epsilon=1e-5, momentum=0.9))
        theirs = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        parity.copy_weights(ours, theirs)
        report = parity.compare(ours, theirs, batch()[0], batch(8, 3)[0], loss=mse())
        bias = next(row for row in report.rows if "bias" in row.name)
        assert report.ok and bias.negligible and "both ≈ 0" in str(report)


def test_bfloat16_is_refused():
    keras.config.set_dtype_policy("bfloat16")
    try:
        ours, theirs = keras_net(layers.Dense(2)), nn.Linear(4, 2, dtype=torch.bfloat16)
    finally:
        keras.config.set_dtype_policy("float32")
    parity.copy_weights(ours, theirs)
    refuse_compare("parity compares float32 and float64", ours, theirs, batch()[0])


def test_keras_conv_with_one_filter_in_float64():
    """PyTorch's CPU code can't differentiate this one: `compare` says so instead of a traceback."""
    with parity.float64():
        ours, theirs = keras_net(layers.Conv2D(1, 2), shape=PICTURE), nn.Conv2d(2, 1, 2)
        parity.copy_weights(ours, theirs)
        x, y = RNG.normal(size=(5, *PICTURE)), RNG.normal(size=(5, 3, 3, 1))
        assert parity.compare(ours, theirs, x).ok
        loss = keras.losses.MeanSquaredError(), lambda p, y: (p - y.permute(0, 3, 1, 2)).mean()
        with pytest.raises(ParityError, match=r"can't give the gradients in float64: .*contiguous"):
            parity.compare(ours, theirs, x, y, loss=loss)


def test_report_as_text_and_as_table():
    ours, theirs = dense_twins()
    report = parity.compare(ours, theirs, *batch(), loss=mse())
    text, table = str(report), report._repr_html_()
    assert repr(report) == text and report.worst.name in text.splitlines()[-1]
    for row in report.rows:
        assert row.name in text and row.name in table
    assert 'class="parity"' in table and "DIFFERENT" in table
    good = parity.Report([parity.Row("a<b", 0.0, 0.0, 1e-12, True)], "float64", [])
    assert good.ok and "both ≈ 0" in str(good) and "a&lt;b" in good._repr_html_()
    assert str(good).endswith("All 1 equal in float64.")


# ------------------------------------------------------------------------------------ float64


def product():
    """The dtype that a Dense layer really computes in: 1 + 1e-12 is 1 in float32."""
    dense = layers.Dense(1, use_bias=False, kernel_initializer="ones")
    out = dense(keras.ops.convert_to_tensor(np.array([[1.0, 1e-12]]), dtype=keras.config.floatx()))
    return out.dtype, out.item() != 1.0


def test_float64_takes_effect_and_is_undone():
    assert product() == (torch.float32, False)
    with parity.float64():
        assert product() == (torch.float64, True)
        assert torch.ones(1).dtype == torch.float64
    assert product() == (torch.float32, False)
    assert torch.get_default_dtype() == torch.float32
    with parity.float64(), parity.float64():  # one in another is one
        assert product() == (torch.float64, True)
    assert product() == (torch.float32, False)
    assert keras.config.floatx() == "float32" and keras.config.dtype_policy().name == "float32"
    with pytest.raises(ZeroDivisionError), parity.float64():
        raise ZeroDivisionError
    assert product() == (torch.float32, False)


def test_keras_alone_is_not_float64():
    """The fact that `float64` exists for. If this fails, Keras has mended it: drop the patch."""
    keras.config.set_floatx("float64")
    try:
        assert product()[1] is False
    finally:
        keras.config.set_floatx("float32")


def test_a_model_outside_float64_is_not_called_a_proof():
    with parity.float64():
        ours, theirs = dense_twins()
        parity.copy_weights(ours, theirs)
    with pytest.raises(ParityError, match=r"rounds float64 products here: compare within"):
        parity.compare(ours, theirs, batch()[0])
    with parity.float64():
        losses = mse()
        assert parity.compare(ours, theirs, *batch(), loss=losses).ok
    outside = keras.losses.MeanSquaredError(dtype="float32"), nn.MSELoss()
    with parity.float64(), pytest.raises(ParityError, match=r"loss answers in torch.float32"):
        parity.compare(ours, theirs, *batch(), loss=outside)


def test_float64_says_when_keras_no_longer_needs_it(monkeypatch):
    from keras.src.backend.common import dtypes

    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    with pytest.warns(UserWarning, match="no longer needs its patch"), parity.float64():
        assert product() == (torch.float64, True)


def test_float64_says_when_it_can_no_longer_be_had(monkeypatch):
    from keras.src.backend.common import dtypes

    moved = dict(dtypes.BIT64_TO_BIT32_DTYPE)
    monkeypatch.setattr(dtypes, "_lattice_result_type", lambda *args: moved["float64"])
    with pytest.raises(RuntimeError, match="can't be made to compute in float64"), parity.float64():
        pass
    monkeypatch.undo()
    assert product() == (torch.float32, False)
