"""Random networks of every kind that helpers.kinds knows: copied both ways, compared, disturbed."""

import copy
import os
import random
from collections import Counter

import keras
import numpy as np
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from keras import layers
from torch import nn

from helpers import parity

NETWORKS = int(os.environ.get("BOOK_NETWORKS") or 360)
TOLERANCE = 1e-10
LUCK = 100  # how much more than a measured rounding another one may be
SEED = 1

KINDS = (
    "dense", "embedding", "conv", "grouped", "dilated", "conv1d", "causal", "transposed",
    "depthwise", "separable", "batch", "layer", "group", "rms", "prelu", "lstm", "gru", "rnn",
    "bi-lstm", "bi-gru", "bi-rnn", "attention",
)  # fmt: skip
"""The kinds that must occur: those with weights, by the names that they have in a spec."""

# ---------------------------------------------------------------- what PyTorch has no layer for


class Recurrent(nn.Module):
    """A recurrent module that gives what Keras' layer gives: all its outputs, or the last."""

    def __init__(self, rnn, sequences):
        super().__init__()
        self.rnn, self.sequences = rnn, sequences

    def forward(self, x):
        outputs, state = self.rnn(x)
        if self.sequences:
            return outputs
        last = state[0] if isinstance(state, tuple) else state
        return torch.cat(list(last), dim=1)  # forwards, and backwards where there is that


class Attend(nn.Module):
    """Attention of a sequence to itself, and the way round it."""

    def __init__(self, *sizes, bias):
        super().__init__()
        self.attention = nn.MultiheadAttention(*sizes, bias=bias, batch_first=True)

    def forward(self, x):
        return x + self.attention(x, x, x, need_weights=False)[0]


class Turn(nn.Module):
    """From (length, channels) to (channels, length), or back."""

    def forward(self, x):
        return x.movedim(1, 2)


class Mean(nn.Module):
    """The average over a sequence or a picture."""

    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.mean(self.axes)


class Chain(keras.Model):
    """A Keras model that is no graph."""

    def __init__(self, stack):
        super().__init__()
        self.stack = stack

    def call(self, x):
        for layer in self.stack:
            x = layer(x)
        return x


# ------------------------------------------------------------------------------- drawing a spec

EPSILON = st.sampled_from([1e-3, 1e-5])
CHANCE = st.binary(min_size=8, max_size=8)  # a seed: Hypothesis' own choices are far from even
FLAG = st.booleans()
STARTS = ("vector", *["picture"] * 4, *["tokens", "sequence", "signal"] * 3)
PICTURE = ("conv", "grouped", "dilated", "transposed", "depthwise", "separable")
AFTER = (
    "none", "relu", "batch", "group", "prelu", "dropout",
    "pool", "average", "pad", "enlarge", "crop",
)  # fmt: skip
RNNS = ("lstm", "gru", "rnn", "bi-lstm", "bi-gru", "bi-rnn")


@st.composite
def networks(draw):
    """A spec: the kind of input, its shape, layers as (name, settings), how Keras' is built."""
    pick = random.Random(draw(CHANCE)).choice
    start = pick(STARTS)
    some, spec, flat = st.integers(2, 4), [], True  # one alone would normalise to nothing
    if start == "vector":
        shape = (draw(some),)
    elif start == "picture":
        shape = (draw(st.integers(4, 7)), draw(st.integers(4, 7)), draw(st.integers(1, 3)))
        flat = draw_picture(draw, pick, spec, shape)
    elif start == "tokens":
        shape = (draw(st.integers(2, 5)),)
        spec.append(("embedding", draw(some)))
        flat = draw_sequence(draw, pick, spec, shape[0])
    else:
        shape = (draw(st.integers(2, 6)), draw(some))
        drawn = draw_sequence if start == "sequence" else draw_signal
        flat = drawn(draw, pick, spec, shape[0])
    if flat:
        draw_vector(draw, pick, spec)
    styles = ["graph", "nested", "nested graph"]
    if all(name != "attention" for name, _ in spec):
        styles += ["stack", "subclass"]
    return start, shape, spec, pick(styles), draw(st.integers(0, 2**31))


def draw_vector(draw, pick, spec):
    """Dense layers, with something before each."""
    count = draw(st.integers(1, 2))
    for number in range(count):
        extras = ["none", "relu", "batch", "layer", "rms", "prelu", "dropout"]
        mixed = any(name == "flatten" for name, _ in spec) and not number
        extra = pick(extras + ["group"] * (not mixed))
        if extra == "prelu":
            spec.append(("prelu", draw(FLAG)))
        elif extra == "group":
            spec.append(("group", (draw(st.sampled_from([1, 2])), draw(EPSILON))))
        elif extra != "none":
            spec.append((extra, draw(EPSILON)))
        least = 1 if number + 1 == count else 2
        spec.append(("dense", (draw(st.integers(least, 5)), draw(FLAG))))


def draw_picture(draw, pick, spec, shape):
    """Convolutions of six kinds, with something after each. True if a vector comes out."""
    high, wide, features = shape
    for _ in range(draw(st.integers(1, 3))):
        name = pick(PICTURE)
        if name == "transposed" and features == 1 and not spec:
            name = "conv"  # see test_keras_conv_with_one_filter_in_float64: one channel in
        size = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        stride, dilation, same = draw(st.sampled_from([1, 2])), 1, False
        if name == "transposed":
            stride = 1 if max(high, wide) > 8 else stride
            size = tuple(max(k, stride) for k in size)
            high, wide = ((n - 1) * stride + k for n, k in zip((high, wide), size, strict=True))
        else:
            if name == "dilated":
                stride, dilation = 1, 2
            same = draw(FLAG) and all(k % 2 for k in size)
            stride = 1 if same else stride
            reach = [(k - 1) * dilation + 1 for k in size]
            if not same:
                high = (high - reach[0]) // stride + 1
                wide = (wide - reach[1]) // stride + 1
            if min(high, wide) < 1:
                break
        filters = 2 * draw(st.integers(1, 2))  # one alone: see test_keras_conv_with_one_filter
        many = draw(st.integers(2, 3)) if name == "depthwise" else draw(st.integers(1, 2))
        spec.append((name, (filters, size, stride, dilation, same, draw(FLAG), many)))
        extra = pick(AFTER)
        if extra in ("pool", "average"):
            if min(high, wide) < 2:
                continue
            high, wide = high // 2, wide // 2
        if extra == "crop":
            if min(high, wide) < 3:
                continue
            high, wide = high - 1, wide - 2
        if extra == "pad":
            high, wide = high + 1, wide + 2
        if extra == "enlarge":
            if max(high, wide) > 5:
                continue
            high, wide = 2 * high, 2 * wide
        if extra == "batch":
            spec.append((extra, draw(EPSILON)))
        elif extra == "group":
            spec.append((extra, (draw(st.sampled_from([1, 2])), draw(EPSILON))))
        elif extra == "prelu":
            spec.append((extra, draw(FLAG)))
        elif extra != "none":
            spec.append((extra, None))
    if not spec:
        spec.append(("conv", (2, (1, 1), 1, 1, False, True, 1)))
    return draw_end(pick, spec, ["flatten", "flatten", "mean", "stay"]) in ("flatten", "mean")


def draw_end(pick, spec, ends):
    end = pick(ends)
    if end != "stay":
        spec.append((end, None))
    return end


def draw_signal(draw, pick, spec, length):
    """Convolutions along one axis; then PyTorch's channels may go last again. As above."""
    before = len(spec)
    for _ in range(draw(st.integers(1, 2))):
        name = pick(["conv1d", "causal"])
        size, stride, dilation = draw(st.integers(1, 3)), 1, draw(st.sampled_from([1, 2]))
        if name == "conv1d":
            stride = draw(st.sampled_from([1, 2])) if dilation == 1 else 1
            length = (length - (size - 1) * dilation - 1) // stride + 1
            if length < 1:
                break
        spec.append((name, (2 * draw(st.integers(1, 2)), size, stride, dilation, draw(FLAG))))
        extra = pick(["none", "relu", "batch", "group", "prelu", "pool1d"])
        if extra == "pool1d":
            if length < 2:
                continue
            length //= 2
        if extra in ("batch", "pool1d"):
            spec.append((extra, draw(EPSILON)))
        elif extra == "group":
            spec.append((extra, (draw(st.sampled_from([1, 2])), draw(EPSILON))))
        elif extra == "prelu":
            spec.append((extra, draw(FLAG)))
        elif extra != "none":
            spec.append((extra, None))
    if len(spec) == before:
        spec.append(("causal", (2, 2, 1, 1, True)))
    end = draw_end(pick, spec, ["flatten", "mean", "stay", "turn"])
    if end == "turn":
        return draw_sequence(draw, pick, spec, length)
    return end in ("flatten", "mean")


def draw_sequence(draw, pick, spec, length):
    """Layers that read a sequence of vectors, (length, features) in both. As above."""
    for _ in range(draw(st.integers(1, 2))):
        name = pick([*RNNS, *RNNS, *["attention"] * 3, "layer", "rms", "dense"])
        if name in RNNS:
            sequences = draw(FLAG)
            spec.append((name, (draw(st.integers(2, 4)), draw(FLAG), sequences)))
            if not sequences:
                return True
        elif name == "attention":
            heads, size = draw(st.sampled_from([(1, 2), (2, 2), (2, 3), (3, 1)]))
            spec.append(("dense", (heads * size, draw(FLAG))))
            spec.append((name, (heads, size, draw(FLAG))))
        elif name == "dense":
            spec.append((name, (draw(st.integers(2, 5)), draw(FLAG))))
        else:
            spec.append((name, draw(EPSILON)))
    end = draw_end(pick, spec, ["flatten", "mean", "stay", *["turn"] * (len(spec) < 5)])
    if end == "turn":
        return draw_signal(draw, pick, spec, length)
    return end in ("flatten", "mean")


# ----------------------------------------------------------------------------- building a spec


def twin(name, value, shape, turned):
    """One layer of a spec for each framework; PyTorch's wants to know what comes in."""
    rank, features = len(shape), shape[-1]
    if name == "dense":
        return layers.Dense(value[0], use_bias=value[1]), nn.Linear(features, *value)
    if name == "embedding":
        return layers.Embedding(7, value), nn.Embedding(7, value)
    if name in PICTURE:
        return picture_twin(name, *value, features)
    if name in ("conv1d", "causal"):
        filters, size, stride, dilation, bias = value
        ours = layers.Conv1D(filters, size, stride, "causal" if name == "causal" else "valid",
                             dilation_rate=dilation, use_bias=bias)  # fmt: skip
        theirs = nn.Conv1d(features, filters, size, stride, dilation=dilation, bias=bias)
        if name == "causal":
            theirs = nn.Sequential(nn.ConstantPad1d(((size - 1) * dilation, 0), 0.0), theirs)
        return ours, theirs
    if name == "batch":
        norm = nn.BatchNorm2d if rank == 4 else nn.BatchNorm1d
        return layers.BatchNormalization(epsilon=value, momentum=0.9), norm(features, value)
    if name == "layer":
        return layers.LayerNormalization(epsilon=value), nn.LayerNorm(features, value)
    if name == "rms":
        return layers.RMSNormalization(epsilon=value), nn.RMSNorm(features, value)
    if name == "group":
        groups, epsilon = value
        groups = 1 if features % groups or features == groups else groups
        return (
            layers.GroupNormalization(groups, epsilon=epsilon),
            nn.GroupNorm(groups, features, epsilon),
        )
    if name == "prelu":  # one slope for each channel, or one for all
        shared = list(range(1, rank - 1 if value else rank)) or None
        return layers.PReLU(shared_axes=shared), nn.PReLU(features if value else 1)
    if name in RNNS:
        return recurrent_twin(name, *value, features)
    if name == "attention":
        heads, size, bias = value
        return (
            layers.MultiHeadAttention(heads, size, use_bias=bias),
            Attend(features, heads, bias=bias),
        )
    if name == "mean":
        if rank == 4:
            return layers.GlobalAveragePooling2D(), Mean(2, 3)
        return layers.GlobalAveragePooling1D(), Mean(2 if turned else 1)
    return {
        "turn": lambda: (None, Turn()),
        "flatten": lambda: (layers.Flatten(), nn.Flatten()),
        "relu": lambda: (layers.ReLU(), nn.ReLU()),
        "dropout": lambda: (layers.Dropout(0.5), nn.Dropout(0.5)),
        "pool": lambda: (layers.MaxPooling2D(2), nn.MaxPool2d(2)),
        "average": lambda: (layers.AveragePooling2D(2), nn.AvgPool2d(2)),
        "pool1d": lambda: (layers.MaxPooling1D(2), nn.MaxPool1d(2)),
        "pad": lambda: (layers.ZeroPadding2D(((1, 0), (0, 2))), nn.ZeroPad2d((0, 2, 1, 0))),
        "crop": lambda: (layers.Cropping2D(((1, 0), (0, 2))), nn.ZeroPad2d((0, -2, -1, 0))),
        "enlarge": lambda: (layers.UpSampling2D(2), nn.Upsample(scale_factor=2)),
    }[name]()


def picture_twin(name, filters, size, stride, dilation, same, bias, many, features):
    padding = ("same", "same") if same else ("valid", 0)
    if name == "transposed":
        return (
            layers.Conv2DTranspose(filters, size, stride, use_bias=bias),
            nn.ConvTranspose2d(features, filters, size, stride, bias=bias),
        )
    if name in ("depthwise", "separable"):
        both = nn.Conv2d(features, many * features, size, stride, padding[1],
                         groups=features, bias=bias and name == "depthwise")  # fmt: skip
        if name == "depthwise":
            return (
                layers.DepthwiseConv2D(size, stride, padding[0], many, use_bias=bias),
                both,
            )
        return (
            layers.SeparableConv2D(filters, size, stride, padding[0], depth_multiplier=many,
                                   use_bias=bias),
            nn.Sequential(both, nn.Conv2d(many * features, filters, 1, bias=bias)),
        )  # fmt: skip
    groups = 2 if name == "grouped" and features % 2 == 0 else 1
    return (
        layers.Conv2D(filters, size, stride, padding[0], dilation_rate=dilation, groups=groups,
                      use_bias=bias),
        nn.Conv2d(features, filters, size, stride, padding[1], dilation, groups, bias),
    )  # fmt: skip


def recurrent_twin(name, units, bias, sequences, features):
    both, kind = name.startswith("bi-"), name.removeprefix("bi-")
    ours, theirs = {
        "lstm": (layers.LSTM, nn.LSTM),
        "gru": (layers.GRU, nn.GRU),
        "rnn": (layers.SimpleRNN, nn.RNN),
    }[kind]
    ours = ours(units, use_bias=bias, return_sequences=sequences)
    theirs = theirs(features, units, bias=bias, batch_first=True, bidirectional=both)
    return layers.Bidirectional(ours) if both else ours, Recurrent(theirs, sequences)


def build(start, shape, spec, style):
    """The spec as a Keras model and as a PyTorch module, float64; the output's shape; the layers'.

    The last are the shapes that come into each layer of the spec, as Keras has them.
    """
    kind = "int64" if start == "tokens" else None
    now, turned = (None, *shape), start == "signal"
    ours, theirs, shapes = [], [], []
    for number, (name, value) in enumerate(spec):
        shapes.append(now)
        layer, module = twin(name, value, now, turned)
        turned = turned != (name == "turn")
        theirs.append(module)
        if layer is None:
            continue
        layer.name = f"{name}_{number}"
        ours.append(layer)
        if name != "attention":
            now = layer.compute_output_shape(now)
    if style == "nested":  # the second half of each is a model in the model
        cut = len(spec) // 2
        theirs = [*theirs[:cut], nn.Sequential(*theirs[cut:])]
    return assemble(ours, shape, kind, style), nn.Sequential(*theirs), now, shapes


def apply(layer, x):
    if isinstance(layer, layers.MultiHeadAttention):
        return layers.Add()([x, layer(x, x)])
    return layer(x)


def assemble(stack, shape, kind, style):
    """The Keras model, built in one of five ways."""
    x = keras.Input(shape, dtype=kind)
    if style == "stack":
        return keras.Sequential([x, *stack])
    if style == "subclass":
        model = Chain(stack)
        model(np.zeros((2, *shape), kind or "float64"))
        return model
    now, cut = x, len(stack) // 2 if "nested" in style else len(stack)
    for layer in stack[:cut]:
        now = apply(layer, now)
    if cut < len(stack):
        inside = inner = keras.Input(now.shape[1:], dtype=now.dtype)
        for layer in stack[cut:]:
            inner = apply(layer, inner)
        now = keras.Model(inside, inner)(now)
    return keras.Model(x, now)


# --------------------------------------------------------------------------------- the property


def fill(rng, weights):
    """Random values for every weight; statistics, scales and biases around one: none is neutral."""
    with torch.no_grad():
        for weight in weights:
            value = rng.uniform(-1, 1, tuple(weight.shape))
            if len(weight.shape) == 1:
                value = 1 + value / 2
            if isinstance(weight, keras.Variable):
                weight.assign(value)
            elif weight.is_floating_point():
                weight.copy_(torch.as_tensor(value))


def numbers(model):
    """Every weight of either model, copied out."""
    if isinstance(model, keras.Model):
        return [np.copy(w) for w in model.get_weights()]
    kept = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    return [np.copy(w.detach().numpy()) for w in kept]


def erase(model):
    """Every weight becomes NaN: what a copy leaves out will show."""
    with torch.no_grad():
        if isinstance(model, keras.Model):
            model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
            return
        for weight in [*model.parameters(), *model.buffers()]:
            if weight.is_floating_point():
                weight.fill_(np.nan)


def equal(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def disturb(rng, pairs, noticed):
    """Move one number of one weight in PyTorch by a hundredth; return the name of its kind.

    It is a weight of the kind that was noticed least so far.
    """

    def kind(pair):
        return pair.name.split(".")[0].rsplit("_", 1)[0]

    least = min(map(kind, pairs), key=lambda name: noticed[name])
    pairs = [pair for pair in pairs if kind(pair) == least]
    pair = pairs[rng.integers(len(pairs))]
    whole = pair.tensor if pair.second is None or rng.integers(2) else pair.second
    part = whole.detach()[pair.rows]
    part[np.unravel_index(rng.integers(part.numel()), part.shape)] += 0.01
    return least


def outputs(module, start, x):
    """What PyTorch says by itself, without parity."""
    x = torch.as_tensor(x)
    if start in ("picture", "signal"):
        x = x.movedim(-1, 1).contiguous()
    with torch.no_grad():
        return module.eval()(x)


# ------------------------------------------------------------------ gradients that are 0 in theory


def silent(spec, shapes):
    """The weights that no loss depends on, by Keras' names: their gradients are 0 in theory.

    What adds the same number to a channel everywhere (a bias, a normalisation's offset) is taken
    away again by a BatchNormalization behind it, unless something between them bends it. A bias
    of attention's keys adds the same to all scores of a query, and the softmax takes it away. In a
    sequence of one there is one score, and neither queries nor keys matter.
    """
    for number, (name, _) in enumerate(spec):
        layer = f"{name}_{number}"
        gone = vanishes(spec[number + 1 :])
        if name == "attention":
            yield f"{layer}.key_dense.bias"
            if shapes[number][1] == 1:
                yield from (f"{layer}.{part}_dense.kernel" for part in ("query", "key"))
                yield f"{layer}.query_dense.bias"
            if gone:
                yield from (f"{layer}.{part}_dense.bias" for part in ("value", "output"))
        elif gone and (name in LINEAR or name in OFFSET):
            yield f"{layer}.{'beta' if name in OFFSET else 'bias'}"


LINEAR = ("dense", *PICTURE, "conv1d", "causal")
OFFSET = ("batch", "layer", "group")


def vanishes(rest):
    """Whether a shift of a channel, the same everywhere, is taken away by one of these layers."""
    everywhere = True  # else: the same for every example, and another from place to place
    for name, value in rest:
        if name == "batch":
            return everywhere
        if name == "pad":
            everywhere = False
        elif name in PICTURE:
            border = name == "transposed" or value[4]  # zeros beyond it don't shift along
            everywhere = everywhere and not (border and max(value[1]) > 1)
        elif name == "causal":
            everywhere = everywhere and value[1] == 1
        elif name in ("flatten", "mean"):
            everywhere = True  # now each place is a channel, or there is but one
        elif name in ("pool", "pool1d") and not everywhere:
            return False  # the largest may be another
        elif name not in ("dense", "conv1d", "pool", "pool1d", "average", "crop", "enlarge",
                          "dropout", "turn"):  # fmt: skip
            return False
    return False


def brittle(spec, shapes):
    """Whether a normalisation has but two numbers to normalise: it leaves little but their order.

    What comes out is 1 and -1, nearly, whatever goes in. So what matters to the layers behind is
    the rest of a subtraction, and a BatchNormalization there makes it large again.
    """
    for (name, value), (_, *shape) in zip(spec, shapes, strict=True):
        if name == "layer" and shape[-1] == 2:
            return True
        if name == "group":
            groups = value[0] if shape[-1] % value[0] == 0 and shape[-1] != value[0] else 1
            if np.prod(shape) / groups == 2:
                return True
    return False


def shaken(number, ours, theirs, start, x, y):
    """What rounding does to each of PyTorch's gradients, measured: a pair's name to a size.

    That is how far it moves when every weight moves by about its last bit: by so much the same
    network, computed otherwise, may differ. The largest of three tries counts.
    """
    rng = np.random.default_rng([number, 1])
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    if start in ("picture", "signal"):
        x = x.movedim(-1, 1).contiguous()

    def gradients(nudge):
        model = copy.deepcopy(theirs).train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        with torch.no_grad():
            for weight in model.parameters():
                weight *= 1 + nudge * torch.as_tensor(rng.normal(size=tuple(weight.shape)))
        said = model(x)
        nn.functional.mse_loss(said, y if said.shape == y.shape else y.movedim(-1, 1)).backward()
        pairs = [pair for pair in parity.pair(ours, model) if pair.trainable]
        return {pair.name: pair.tensor.grad[pair.rows] for pair in pairs}

    still, moved = gradients(0), [gradients(2.0**-52) for _ in range(3)]
    return {
        name: max((each[name] - value).abs().max().item() for each in moved)
        for name, value in still.items()
    }


def test_random_networks_agree_both_ways():
    """Forward and gradients to 1e-10 in float64, from Keras to PyTorch and back; and a no.

    A gradient that is 0 in theory (`silent` says which, from the structure) has no size of its own
    to be compared by: both frameworks' must be rounding, as `shaken` measures it.

    In each network one number of one weight is moved then: the verdict must turn where PyTorch's
    own outputs have moved, and only there (a unit may sleep; no key's bias reaches any output).
    """
    drawn, noticed, rounded, worst, tight = Counter(), Counter(), Counter(), [], []

    @seed(SEED)  # the same networks each time, whatever is changed in this file
    @settings(
        max_examples=NETWORKS, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(networks())
    def check(network):
        start, shape, spec, style, number = network
        rng = np.random.default_rng(number)
        with parity.float64():
            ours, theirs, output, shapes = build(start, shape, spec, style)
            zero, fragile = set(silent(spec, shapes)), brittle(spec, shapes)
            tokens = start == "tokens"
            x = rng.integers(0, 7, (5, *shape)) if tokens else rng.normal(size=(5, *shape))
            y = rng.normal(size=(5, *output[1:]))
            loss = keras.losses.MeanSquaredError(), nn.MSELoss()
            for source, target in ((ours, theirs), (theirs, ours)):
                fill(rng, ours.weights)
                fill(rng, [*theirs.parameters(), *theirs.buffers()])
                before = numbers(source)
                erase(target)
                parity.copy_weights(source, target)
                assert equal(before, numbers(source))
                assert not any(np.isnan(w).any() for w in numbers(target))
                report = parity.compare(ours, theirs, x, y, loss=loss, tolerance=TOLERANCE)
                sizes = {}
                if zero or fragile:
                    sizes = shaken(number, ours, theirs, start, x, y)
                largest = max(row.size for row in report.rows if row.name.startswith("gradient"))
                for row in report.rows:
                    pair = row.name.removeprefix("gradient ")
                    if pair != row.name and pair.split(" ~ ")[0] in zero:
                        bound = LUCK * max(sizes[pair], 2.0**-53 * largest)
                        assert row.size <= bound, report
                        tight.append(row.size / bound if bound else 0)
                        rounded[pair.split(".", 1)[1].split(" ~ ")[0]] += 1
                    elif pair != row.name and fragile and row.difference > TOLERANCE:
                        gap = row.difference * max(row.size, largest / 1000)
                        assert gap <= LUCK * sizes[pair], report
                        tight.append(gap / (LUCK * sizes[pair]))
                        rounded["two numbers normalised"] += 1
                    else:
                        assert row.difference <= TOLERANCE, report
                        worst.append((row.difference, row.name))
            still = outputs(theirs, start, x)
            kind = disturb(rng, parity.pair(ours, theirs), noticed)
            moved = outputs(theirs, start, x)
            report = parity.compare(ours, theirs, x, tolerance=TOLERANCE)
            gap = ((moved - still).abs().max() / max(moved.abs().max(), still.abs().max())).item()
            if gap > 2 * TOLERANCE or gap < TOLERANCE / 2:
                assert report.rows[0].ok == (gap < TOLERANCE), report
            noticed[kind] += not report.rows[0].ok
        drawn.update({name for name, _ in spec} | {"networks", style, start})

    check()
    count, (largest, name) = drawn["networks"], max(worst)
    print(f"\n{count} networks, both ways; the largest difference: {largest:.1e} ({name}).")
    print("drawn:", {kind: drawn[kind] for kind in KINDS})
    print("and a change noticed:", {kind: noticed[kind] for kind in KINDS})
    print(f"gradients bounded by rounding: {dict(rounded)}; used of the bound: {max(tight):.1e}")
    assert count >= NETWORKS
    assert all(drawn[kind] >= NETWORKS // 40 for kind in KINDS), drawn
    assert all(noticed[kind] >= NETWORKS // 120 for kind in KINDS), noticed
