"""The training step: fast_keras is Keras, and the benchmark's ways to train all do the same."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from keras import layers
from race import fast_keras

from helpers import parity, training
from tools.bench import steps

ROOT = Path(__file__).resolve().parents[1]
CONV = {"filters": 3, "kernel_size": 3}
EACH = {  # a layer, its arguments, the shape of a batch
    "dense": ("Dense", {"units": 5}, (7, 4)),
    "dense, activation": ("Dense", {"units": 5, "activation": "tanh"}, (7, 4)),
    "dense, no bias": ("Dense", {"units": 5, "use_bias": False}, (7, 4)),
    "dense, sequences": ("Dense", {"units": 5}, (7, 3, 4)),
    "conv": ("Conv2D", CONV, (4, 9, 8, 2)),
    "conv, one channel": ("Conv2D", CONV, (4, 9, 8, 1)),
    "conv, first": ("Conv2D", {**CONV, "data_format": "channels_first"}, (4, 2, 9, 8)),
    "conv, same": ("Conv2D", {**CONV, "padding": "same", "use_bias": False}, (4, 9, 8, 2)),
    "conv, same, even": (
        "Conv2D",
        {"filters": 3, "kernel_size": (3, 5), "padding": "same", "dilation_rate": 2},
        (4, 9, 8, 2),
    ),
    "conv, same, strides": (
        "Conv2D",
        {**CONV, "padding": "same", "strides": 2, "activation": "tanh"},
        (4, 9, 8, 2),
    ),
    "conv, strides": ("Conv2D", {**CONV, "strides": (2, 3), "activation": "tanh"}, (4, 9, 8, 2)),
    "conv, groups": ("Conv2D", {"filters": 4, "kernel_size": 3, "groups": 2}, (4, 9, 8, 2)),
    "pool": ("MaxPooling2D", {"pool_size": 2}, (4, 9, 8, 2)),
    "pool, first": (
        "MaxPooling2D",
        {"pool_size": (2, 3), "strides": 2, "data_format": "channels_first"},
        (4, 2, 9, 8),
    ),
    "pool, strides": ("MaxPooling2D", {"pool_size": (3, 2), "strides": (1, 2)}, (4, 9, 8, 2)),
    "pool, same": ("MaxPooling2D", {"pool_size": 2, "padding": "same"}, (4, 9, 8, 2)),
    "norm": ("BatchNormalization", {}, (6, 5, 4, 3)),
    "norm, first": ("BatchNormalization", {"axis": 1}, (6, 3, 5, 4)),
    "norm, middle": ("BatchNormalization", {"axis": 2}, (6, 5, 3, 4)),
    "norm, vectors": ("BatchNormalization", {"momentum": 0.9, "epsilon": 1e-5}, (6, 3)),
    "norm, sequences": ("BatchNormalization", {"scale": False}, (6, 5, 3)),
    "norm, bare": ("BatchNormalization", {"scale": False, "center": False}, (6, 3)),
    "norm, one value": ("BatchNormalization", {}, (1, 3)),
    "norm, renorm": ("BatchNormalization", {"renorm": True}, (6, 3)),
}


def _random(layer, rng):
    """Weights that are not zeros and ones; a variance stays positive."""
    layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.weights])


def _pass(layer, x, training):
    """The output, the gradients of the input and of each weight, and the weights after it."""
    x = x.clone().requires_grad_()
    known = {"training": training} if isinstance(layer, layers.BatchNormalization) else {}
    outputs = layer(x, **known)
    learned = [x, *(w.value for w in layer.trainable_weights)]
    weights = torch.linspace(0.5, 1.5, outputs.numel(), dtype=x.dtype).reshape(outputs.shape)
    gradients = torch.autograd.grad((outputs * weights).tanh().sum(), learned, allow_unused=True)
    return [outputs, *(g for g in gradients if g is not None), *(w.value for w in layer.weights)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", EACH)
def test_a_fast_layer_is_keras_own(case, training):
    """In float64: outputs, gradients, moving statistics; its configuration, and its weights."""
    name, settings, shape = EACH[case]
    rng = np.random.default_rng(0)
    with parity.float64():
        x = torch.from_numpy(rng.normal(0.3, 2, shape))
        theirs, ours = getattr(layers, name)(**settings), getattr(fast_keras, name)(**settings)
        for layer in (theirs, ours):
            layer.build(shape)
        _random(theirs, rng)
        ours.set_weights(theirs.get_weights())
        kept = [w.numpy().copy() for w in ours.weights]
        wanted, found = _pass(theirs, x, training), _pass(ours, x, training)
    assert len(wanted) == len(found)
    for a, b in zip(wanted, found, strict=True):
        assert a.shape == b.shape and b.dtype == torch.float64
        # Each entry is a sum of at most 4 * 9 * 8 products, of size up to that of the largest.
        assert (a - b).abs().max() <= 300 * 2**-52 * max(1, a.abs().max()), case
    if name == "BatchNormalization":
        moved = any((k != w.numpy()).any() for k, w in zip(kept, ours.weights, strict=True))
        assert moved == training
    configurations = [
        {k: v for k, v in layer.get_config().items() if k != "name"} for layer in (theirs, ours)
    ]
    assert configurations[0] == configurations[1]


def test_frozen_batchnorm_keeps_its_statistics():
    layer = fast_keras.BatchNormalization(trainable=False)
    x = torch.randn(6, 3)
    layer.build(x.shape)
    before = [w.numpy().copy() for w in layer.weights]
    outputs = layer(x, training=True)
    assert torch.allclose(outputs, x / (1 + layer.epsilon) ** 0.5)
    assert all((a == b.numpy()).all() for a, b in zip(before, layer.weights, strict=True))


def _models(make=None):
    make = make or steps.normalised_twins()[0]
    plain = make("channels_last")
    fast = make("channels_last", fast_keras, fast_keras.Sequential)
    for variable in plain.variables:  # BatchNorm's too
        variable.assign(variable + 0.1 * keras.random.uniform(variable.shape, seed=1))
    fast.set_weights(plain.get_weights())
    return plain, fast


def test_a_fast_model_and_a_plain_one_read_each_others_weights(tmp_path):
    plain, fast = _models()
    x = torch.randn(5, 28, 28, 1)
    laid = fast.layers[4].kernel.value.permute(3, 2, 0, 1)
    assert laid.is_contiguous(memory_format=torch.channels_last) and not laid.is_contiguous()
    for source, name in ((plain, "plain"), (fast, "fast")):
        source.save_weights(tmp_path / f"{name}.weights.h5")
    others = _models(), _models()
    others[0][0].load_weights(tmp_path / "fast.weights.h5")
    others[1][1].load_weights(tmp_path / "plain.weights.h5")
    for other in (others[0][0], others[1][1]):
        assert all(
            (a == b).all() for a, b in zip(other.get_weights(), plain.get_weights(), strict=True)
        )
    assert others[1][1].layers[4].kernel.value.stride() == fast.layers[4].kernel.value.stride()
    assert torch.allclose(plain(x), fast(x), atol=1e-5)


def test_a_fast_model_is_saved_and_loaded_with_and_without_its_module(tmp_path):
    """Where `race` isn't to be had, Keras' own classes stand in under their registered names."""
    fast = _models()[1]
    x = np.random.default_rng(0).normal(size=(5, 28, 28, 1)).astype("float32")
    fast.save(tmp_path / "fast.keras")
    again = keras.saving.load_model(tmp_path / "fast.keras")
    assert type(again) is fast_keras.Sequential and type(again.layers[0]) is fast_keras.Conv2D
    np.testing.assert_array_equal(again.predict(x, verbose=0), fast.predict(x, verbose=0))
    np.savez(tmp_path / "x.npz", x=x, y=fast.predict(x, verbose=0))
    code = """
import keras, numpy as np
kinds = ["Dense", "Conv2D", "MaxPooling2D", "BatchNormalization"]
known = {f"fast_keras>{kind}": getattr(keras.layers, kind) for kind in kinds}
known["fast_keras>Sequential"] = keras.Sequential
model = keras.saving.load_model("fast.keras", custom_objects=known)
assert type(model.layers[0]) is keras.layers.Conv2D
both = np.load("x.npz")
np.testing.assert_allclose(model.predict(both["x"], verbose=0), both["y"], atol=1e-5)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def _calls(model, monkeypatch):
    """How many of its layers are called in Keras' way, when the model is."""
    called = []
    usual = layers.Layer.__call__

    def count(layer, *args, **kwargs):
        called.append(layer)
        return usual(layer, *args, **kwargs)

    monkeypatch.setattr(layers.Layer, "__call__", count)
    model(torch.ones(2, *model.input_shape[1:]), training=True)
    monkeypatch.undo()
    return len(called) - 1


def _small(*more, **settings):
    dense = fast_keras.Dense(3, **settings)
    return fast_keras.Sequential([keras.Input((4,)), dense, layers.ReLU(), *more])


def test_sequential_takes_keras_own_way_where_a_call_does_more(monkeypatch):
    assert _calls(_small(), monkeypatch) == 0
    assert _calls(_small(layers.Dropout(0.5)), monkeypatch) == 0
    assert _calls(_small(layers.Masking()), monkeypatch) == 3
    assert _calls(_small(activity_regularizer="l2"), monkeypatch) == 2
    assert _calls(_small(dtype="mixed_bfloat16"), monkeypatch) == 2
    model = _small(activity_regularizer="l2")
    model(torch.ones(2, 4))
    assert len(model.losses) == 1
    keras.utils.set_random_seed(0)
    model = _small(layers.Dropout(0.5))
    x = torch.ones(200, 4)
    share = (model(x, training=True) == 0).float().mean() - (model(x) == 0).float().mean()
    assert share > 0.05 and torch.equal(model(x), model(x, training=False))
    model.add(layers.Dense(1))
    assert model(x).shape == (200, 1)
    unbuilt = fast_keras.Sequential([fast_keras.Dense(3)])
    assert unbuilt.call(x).shape == (200, 3)


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
def test_what_a_fast_layer_cannot_do_is_left_to_keras():
    """A mask, LoRA and quantised weights: the same numbers as from Keras' own layer."""
    x, mask = torch.randn(6, 5, 4), torch.rand(6, 5) > 0.4
    pair = [kit.BatchNormalization() for kit in (layers, fast_keras)]
    outputs = [layer(x, training=True, mask=mask) for layer in pair]
    assert torch.equal(*outputs) and (pair[0].moving_mean == pair[1].moving_mean).all()

    masked = layers.Masking()(x * mask[..., None])  # the mask rides on the tensor
    models = [
        sequential([keras.Input((5, 4)), kit.BatchNormalization()])
        for sequential, kit in (
            (keras.Sequential, layers),
            (fast_keras.Sequential, fast_keras),
        )
    ]
    assert torch.equal(*(model(masked, training=True) for model in models))

    pair = [kit.BatchNormalization(dtype="mixed_bfloat16") for kit in (layers, fast_keras)]
    assert torch.equal(*(layer(x, training=True) for layer in pair))

    for name, settings, shape in (EACH["dense"], EACH["conv"]):
        x = torch.randn(shape)
        pair = [getattr(kit, name)(**settings, lora_rank=2) for kit in (layers, fast_keras)]
        for layer in pair:
            layer.build(shape)
            for weight, seed in zip(layer.weights, range(9), strict=False):
                weight.assign(keras.random.normal(weight.shape, seed=seed))
        assert torch.equal(*(layer(x) for layer in pair))
        assert not torch.equal(pair[1](x), pair[1](x) * 0)

    x, model = torch.randn(7, 4), _small()
    plain = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.ReLU()])
    plain.set_weights(model.get_weights())
    for each in (plain, model):
        each.layers[0].quantize("int8", type_check=False)
    assert torch.equal(plain(x), model(x))


def test_kernels_laid_out_are_the_same_kernels():
    """A plain model in channels_first: same outputs, and the format in which PyTorch sees them."""
    model = steps.convolutional_twins()[0]("channels_first")
    x, kernels = (
        torch.randn(3, 1, 28, 28),
        [layer.kernel.value for layer in (model.layers[0], model.layers[3])],
    )
    before, shapes = model(x).detach(), [kernel.shape for kernel in kernels]
    weights = model.get_weights()
    fast_keras.lay_out(model)
    assert all((a == b).all() for a, b in zip(weights, model.get_weights(), strict=True))
    assert [kernel.shape for kernel in kernels] == shapes
    last = torch.channels_last
    assert all(k.permute(3, 2, 0, 1).is_contiguous(memory_format=last) for k in kernels)
    convolved = [
        layer(torch.randn(3, c, 9, 9)) for c, layer in ((1, model.layers[0]), (32, model.layers[3]))
    ]
    assert all(outputs.is_contiguous(memory_format=last) for outputs in convolved)
    assert torch.allclose(model(x), before, atol=1e-5)


def test_pairs_divide_keras_time_by_that_of_pytorch():
    seconds = {
        "explicit loop (PyTorch)": [2.0, 2.0, 2.0],
        "explicit loop, fused Adam": [1.0, 1.0, 1.0],
        "fit (Keras), and accuracy": [6.0, 6.0, 6.0],
        "explicit loop (Keras), channels_first, fused Adam": [3.0, 3.0, 3.0],
        "explicit loop (fast_keras), fused Adam": [1.5, 1.5, 1.5],
    }
    found = {name: each["ratio"] for name, each in steps.over_torch(seconds).items()}
    assert found == {
        "as everybody writes it": 3,
        "contiguous, Keras' own layers": 3,
        "the fastest of each": 1.5,
    }


def _first_step(gradient, rounding, epsilon, lr=1e-3):
    """Where Adam's first step may lead: lr * g / (|g| + epsilon), g known up to `rounding`."""
    return tuple(-lr * g / (g.abs() + epsilon) for g in (gradient + rounding, gradient - rounding))


@pytest.mark.parametrize("network", ["dense", "convolutional", "normalised"])
def test_every_way_to_train_makes_the_same_step(network):
    """One step on one batch from the same weights: each parameter lands where Adam's formula says.

    The gradient is that of a plain PyTorch network in float64. In float32 each variant's may be off
    by a hundred roundings of the largest in its tensor; what the formula makes of that is allowed.
    """
    make_keras, make_torch = getattr(steps, f"{network}_twins")()
    variants = getattr(steps, f"step_of_the_{network}_network")(steps=1)
    torch.manual_seed(0)
    start = make_torch()
    plain = {order: make_keras(order) for order in ("channels_last", "channels_first")}
    for model in plain.values():
        parity.copy_weights(start, model)
    # The one batch, as the benchmark draws and shuffles it, and its gradient in float64.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 28, 28, 1)).astype("float32")
    y = rng.integers(0, 10, 128)
    order = training.epoch_order(128, seed=0, epoch=0)
    truth = make_torch().double()
    truth.load_state_dict(start.state_dict())
    x = torch.from_numpy(x[order].transpose(0, 3, 1, 2)).double()
    F.cross_entropy(truth(x), torch.from_numpy(y[order])).backward()

    assert {name for pair in steps.PAIRS.values() for name in pair} <= {*variants} or (
        network == "dense"
    )
    for name, step in variants.items():
        ours = isinstance(step.model, keras.Model)
        first = ours and step.model.input_shape[1] == 1 and network != "dense"
        like = plain["channels_first" if first else "channels_last"]
        if ours:
            step.model.set_weights(like.get_weights())
        else:
            step.model.load_state_dict(start.state_dict())
        step()
        ended = step.model
        if ours:
            before = like.get_weights()
            like.set_weights(step.model.get_weights())
            ended = make_torch()
            parity.copy_weights(like, ended)
            like.set_weights(before)
        # Keras' Adam adds its epsilon before the correction of the bias, sqrt(1 - 0.999), which it
        # takes in float32: 0.999 is rounded there, and 1 - 0.999 has that error in a thousandth.
        epsilon, rounding = 1e-7, 2**-21
        if isinstance(step.optimizer, keras.optimizers.Adam):
            epsilon, rounding = epsilon / 0.001**0.5, rounding + 2**-24 / 0.001
        both = zip(start.named_parameters(), ended.parameters(), truth.parameters(), strict=True)
        for (weight, before), after, true in both:
            g = true.grad
            low, high = _first_step(g, parity.TOLERANCE["float32"] * g.abs().max(), epsilon)
            moved = (after - before).double()
            slack = 2**-23 * before.abs() + rounding * 1e-3  # of the sum, of the products
            assert (moved >= low - slack).all() and (moved <= high + slack).all(), (name, weight)
            assert (high - low).median() < 1e-4, "the bound says nothing"
