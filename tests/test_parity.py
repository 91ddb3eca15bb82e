"""What helpers.pairing pairs and refuses; that the verdict of helpers.parity can be yes and no."""

import keras
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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


# ------------------------------------------------------------------- random pairs of networks


@st.composite
def networks(draw):
    """A spec: the kind of input, its shape, and a list of layers as (kind, settings)."""
    kind = draw(st.sampled_from(["vector", "picture", "tokens"]))
    spec = []
    width = st.integers(1, 6)
    between = st.sampled_from([None, "relu", "batch", "layer", "dropout"])
    if kind == "vector":
        shape = (draw(width),)
    elif kind == "tokens":
        shape = (draw(st.integers(1, 4)),)
        spec.append(("embedding", draw(width)))
        if draw(st.booleans()):
            spec.append(("layer", draw(st.sampled_from([1e-3, 1e-5]))))
        spec.append(("flatten", None))
    else:
        height, breadth = draw(st.integers(5, 9)), draw(st.integers(5, 9))
        shape = (height, breadth, draw(st.integers(1, 3)))
        for _ in range(draw(st.integers(0, 2))):
            size = draw(st.sampled_from([(1, 1), (2, 2), (3, 3), (1, 3)]))
            same = draw(st.booleans()) and all(k % 2 for k in size)
            stride = 1 if same else draw(st.sampled_from([1, 2]))
            bias = draw(st.booleans())
            if not same:
                height = (height - size[0]) // stride + 1
                breadth = (breadth - size[1]) // stride + 1
            if min(height, breadth) < 1:
                break
            # One filter alone: see test_keras_conv_with_one_filter_in_float64.
            spec.append(("conv", (draw(st.integers(2, 6)), size, stride, same, bias)))
            extra = draw(st.sampled_from([None, "relu", "batch", "dropout", "pool"]))
            if extra == "pool" and min(height, breadth) >= 2:
                height, breadth = height // 2, breadth // 2
                spec.append(("pool", None))
            elif extra == "batch":
                spec.append((extra, draw(st.sampled_from([1e-3, 1e-5]))))
            elif extra in ("relu", "dropout"):
                spec.append((extra, None))
            if min(height, breadth) < 3:
                break
        spec.append(("flatten", None))
        if draw(st.booleans()):
            spec.append(("dropout", None))
    for _ in range(draw(st.integers(1, 2))):
        extra = draw(between)
        if extra:
            spec.append((extra, draw(st.sampled_from([1e-3, 1e-5]))))
        spec.append(("dense", (draw(width), draw(st.booleans()))))
    return kind, shape, spec, draw(st.integers(0, 2**31))


def build(kind, shape, spec):
    """The spec as a Keras model and as a PyTorch module, float64, with unlike weights."""
    now = keras.Input(shape, dtype="int64" if kind == "tokens" else None)
    ours, theirs = [now], []  # PyTorch's layers want their input sizes: `now` knows them
    for name, value in spec:
        rank, features = len(now.shape), now.shape[-1]
        if name == "dense":
            pair = layers.Dense(value[0], use_bias=value[1]), nn.Linear(features, *value)
        elif name == "conv":
            filters, size, stride, same, bias = value
            padding = "same" if same else "valid"
            pair = (
                layers.Conv2D(filters, size, stride, padding, use_bias=bias),
                nn.Conv2d(features, filters, size, stride, padding if same else 0, bias=bias),
            )
        elif name == "batch":
            norm = nn.BatchNorm2d if rank == 4 else nn.BatchNorm1d
            pair = (
                layers.BatchNormalization(epsilon=value, momentum=0.9),
                norm(features, eps=value),
            )
        elif name == "layer":
            pair = layers.LayerNormalization(epsilon=value), nn.LayerNorm(features, eps=value)
        elif name == "embedding":
            pair = layers.Embedding(7, value), nn.Embedding(7, value)
        elif name == "flatten":
            pair = layers.Flatten(), nn.Flatten()
        elif name == "pool":
            pair = layers.MaxPooling2D(2), nn.MaxPool2d(2)
        elif name == "dropout":
            pair = layers.Dropout(0.5), nn.Dropout(0.5)
        elif name == "relu":
            pair = layers.ReLU(), nn.ReLU()
        now = pair[0](now)
        ours.append(pair[0])
        theirs.append(pair[1])
    keras_model, torch_model = keras.Sequential(ours), nn.Sequential(*theirs)
    randomise(keras_model.weights)
    randomise([*torch_model.parameters(), *torch_model.buffers()])
    return keras_model, torch_model, now.shape


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


@settings(
    max_examples=220, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(networks())
def test_random_networks_agree_both_ways(network):
    kind, shape, spec, seed = network
    rng = np.random.default_rng(seed)
    with parity.float64():
        for forth in (True, False):
            keras_model, torch_model, output = build(kind, shape, spec)
            source = (keras_model, torch_model) if forth else (torch_model, keras_model)
            original = snapshot(keras_model, torch_model)
            parity.copy_weights(*source)
            copied, count = snapshot(keras_model, torch_model), len(keras_model.weights)
            kept = slice(count) if forth else slice(count, None)
            assert same(original[kept], copied[kept])  # the source is untouched
            x = (
                rng.integers(0, 7, (5, *shape))
                if kind == "tokens"
                else rng.normal(size=(5, *shape))
            )
            y = rng.normal(size=(5, *output[1:]))
            before = snapshot(keras_model, torch_model)
            report = parity.compare(keras_model, torch_model, x, y, loss=mse(), tolerance=1e-10)
            assert report.ok, report
            assert same(before, snapshot(keras_model, torch_model))
            # The verdict can be no: the last layer, a thousandth larger, is seen.
            with torch.no_grad():
                for tensor in torch_model[-1].parameters():
                    tensor *= 1.001
            moved = parity.compare(keras_model, torch_model, x, y, loss=mse(), tolerance=1e-10)
            assert moved.rows[0].ok == (report.rows[0].size < 1e-7)


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
