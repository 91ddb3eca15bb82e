"""Rows of the ledger: a Keras model is a torch.nn.Module. What PyTorch's habits do to one."""

import copy
import io
import os
import pickle
import tempfile
import warnings
from functools import partial

import keras
import numpy as np
import torch
from keras import layers
from torch import nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from helpers import parity

from . import entry
from .optimisers import T
from .yardstick import draw, gap, nchw, nhwc, refusal

row = partial(entry, "Keras in PyTorch", chapter="10_keras_in_torch")
hybrid = partial(entry, "PyTorch in Keras", chapter="11_torch_in_keras")
saving = partial(entry, "Saving", chapter="10_keras_in_torch")


# ------------------------------------------------------------------------------------ the tools


def make_keras_model(dropout=0.0):
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dropout(dropout),
            layers.Dense(3),
        ]
    )


def make_torch_model(dropout=0.0):
    return nn.Sequential(
        nn.Linear(4, 6), nn.Tanh(), nn.BatchNorm1d(6), nn.Dropout(dropout), nn.Linear(6, 3)
    )


def apart(one, other, x=None):
    """How far apart two models' outputs are."""
    x = draw(8, 4) if x is None else x
    return gap(one(x).detach(), other(x).detach())


def count(tensors):
    return sum(1 for _ in tensors)


class Turned(nn.Module):
    """Channels last to channels first, or back."""

    def __init__(self, back=False):
        super().__init__()
        self.turn = nhwc if back else nchw

    def forward(self, x):
        return self.turn(x)


def trained_count(module):
    return count(p for p in module.parameters() if p.requires_grad)


# ------------------------------------------------------------------------- what PyTorch can see


@row(
    "parameters() with BatchNormalization",
    keras="the moving statistics are among them",
    torch="they are buffers",
    mend="[p for p in parameters() if p.requires_grad]",
    unit="tensors",
)
def parameters():
    ours, theirs = make_keras_model(), make_torch_model()
    before = abs(count(ours.parameters()) - count(theirs.parameters()))
    return before, abs(trained_count(ours) - trained_count(theirs))


@row(
    "buffers()",
    keras="none",
    torch="running_mean, running_var, num_batches_tracked",
    mend="model.non_trainable_variables",
    unit="buffers with numbers of their own",
)
def buffers():
    ours, theirs = make_keras_model(), make_torch_model()
    statistics = [b for b in theirs.buffers() if b.ndim]  # not the counter of batches
    kept = [v for v in ours.non_trainable_variables if v.value.is_floating_point()]
    return len(statistics) - count(ours.buffers()), abs(len(statistics) - len(kept))


@row(
    "parameters() with Dropout",
    keras="its generator's state, of 2 numbers, is among them",
    torch="nothing",
    mend="[p for p in parameters() if p.requires_grad]",
    unit="numbers, beside count_params()",
)
def dropout_state():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dropout(0.5)])
    every = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return every - model.count_params(), trained - model.count_params()


@row(
    "A model without Input",
    keras="has no parameters until it is called",
    torch="has them at once",
    mend="keras.Input, or build()",
    unit="tensors",
)
def unbuilt():
    theirs = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    ours = keras.Sequential([layers.Dense(6), layers.Dense(3)])
    before = count(theirs.parameters()) - count(ours.parameters())
    ours.build((None, 4))
    return before, count(theirs.parameters()) - count(ours.parameters())


class Mixed(nn.Module):
    """A PyTorch module with a Keras layer inside; `told` passes the mode on to it."""

    def __init__(self, layer, told=False, head=None):
        super().__init__()
        self.layer, self.told, self.head = layer, told, head or nn.Identity()

    def forward(self, x):
        mode = {"training": self.training} if self.told else {}
        return self.head(self.layer(x, **mode))


@row(
    "An optimiser made before the first call",
    keras="misses the Keras layers",
    torch="holds all",
    mend="layer.build(shape) first",
    unit="tensors that it misses",
)
def early_optimizer():
    def missed(model):
        held = T.SGD(model.parameters()).param_groups[0]["params"]
        model(draw(8, 4))
        return count(model.parameters()) - len(held)

    early, built = (Mixed(layers.Dense(4), head=nn.Linear(4, 2)) for _ in "12")
    built.layer.build((None, 4))
    return missed(early), missed(built)


@row(
    "train(), Dropout",
    keras="Keras layers don't hear it",
    torch="drops",
    mend="layer(x, training=self.training)",
    unit="outputs",
)
def train_dropout():
    def run(layer, told=False):
        torch.manual_seed(0)  # one seed, one mask, in both frameworks
        return Mixed(layer, told).train()(torch.ones(8, 4))

    theirs = run(nn.Dropout(0.5))
    ours = layers.Dropout(0.5)
    return gap(run(ours), theirs), gap(run(ours, told=True), theirs)


@row(
    "train(), BatchNormalization",
    keras="Keras layers don't hear it: the statistics stay",
    torch="they move",
    mend="layer(x, training=self.training)",
    unit="running mean",
)
def train_batch_norm():
    x, theirs, found = 3 + draw(8, 4), nn.BatchNorm1d(4), []
    theirs(x)
    for told in (False, True):
        ours = layers.BatchNormalization(momentum=0.9)
        ours.build((None, 4))
        Mixed(ours, told).train()(x)
        found.append(gap(ours.moving_mean.value, theirs.running_mean))
    return tuple(found)


@row(
    "requires_grad_(False) on a Keras layer",
    keras="frozen, but still counted: trainable stays True",
    torch="frozen",
    mend="layer.trainable = False",
    unit="tensors counted as trainable",
)
def freezing():
    ours, theirs = make_keras_model(), make_torch_model()
    for p in [*ours.layers[0].parameters(), *theirs[0].parameters()]:
        p.requires_grad_(False)
    before = len(ours.trainable_variables) - trained_count(theirs)
    ours.layers[0].trainable = False
    counts = len(ours.trainable_variables), trained_count(ours)  # both sides see it
    return before, max(abs(n - trained_count(theirs)) for n in counts)


@row(
    "requires_grad_(False), then fit",
    keras="the layer stays, with a warning",
    torch="the layer stays",
    mend="nothing to do",
    unit="weights of the frozen layer, moved",
)
def frozen_fit():
    model = make_keras_model()
    model.layers[0].requires_grad_(False)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    kernel = model.layers[0].kernel.value.clone()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gradients do not exist")
        model.fit(draw(8, 4), draw(8, 3), verbose=0)
    moved = gap(model.layers[0].kernel.value, kernel)
    return moved, moved


@row(
    "Weight decay and the moving statistics",
    keras="among the parameters, but without a gradient",
    torch="buffers",
    mend="nothing to do: neither is decayed",
    unit="moving variance, moved",
)
def decayed_statistics():
    model = make_keras_model()
    optimizer = T.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    model(draw(8, 4)).sum().backward()
    before = model.layers[1].moving_variance.value.clone()
    optimizer.step()
    moved = gap(model.layers[1].moving_variance.value, before)
    return moved, moved


@row(
    "model.compile(torch.optim.Adam(...))",
    keras="refused",
    torch="an optimiser",
    mend="a loop, or a train_step of one's own",
    unit="error",
)
def compile_torch_optimizer():
    model = make_keras_model()
    return refusal(lambda: model.compile(T.Adam(model.parameters()), "mse")), None


@row(
    "torch.func.functional_call",
    keras="ignores the given parameters",
    torch="uses them",
    mend="model.stateless_call",
    unit="outputs with all parameters 0",
)
def functional_call():
    ours, x = make_keras_model(), draw(8, 4)
    zeros = {name: torch.zeros_like(p) for name, p in ours.named_parameters()}
    before = torch.func.functional_call(ours, zeros, (x,)).detach()
    trained = [torch.zeros_like(v.value) for v in ours.trainable_variables]
    rest = [v.value for v in ours.non_trainable_variables]
    after, _ = ours.stateless_call(trained, rest, x)
    theirs = make_torch_model().eval()
    zeros = {name: torch.zeros_like(p) for name, p in theirs.named_parameters()}
    by_torch = torch.func.functional_call(theirs, zeros, (x,))
    return gap(before, by_torch), gap(after.detach(), by_torch)


@row(
    "torch.nn.utils.prune",
    keras="refused: a kernel is a Variable",
    torch="prunes",
    mend="prune a PyTorch twin",
    unit="error",
    chapter="13_defaults",
)
def pruning():
    model, linear = make_keras_model(), nn.Linear(4, 4)
    prune.l1_unstructured(linear, "weight", 0.5)
    return refusal(lambda: prune.l1_unstructured(model.layers[-1], "kernel", 0.5)), None


@row(
    "torch.fx.symbolic_trace",
    keras="refused",
    torch="traces",
    mend="torch.export.export(model, (x,), strict=False)",
    unit="error",
)
def symbolic_trace():
    torch.fx.symbolic_trace(make_torch_model())
    return refusal(lambda: torch.fx.symbolic_trace(make_keras_model())), None


def doubled(make_keras, make_torch, x):
    """How far apart two twins are that were built in float32 and made float64 by `double()`."""
    ours, theirs = make_keras(), make_torch()
    parity.copy_weights(ours, theirs)
    theirs = theirs.double()
    y = ours.double()(x)
    return gap(y.detach(), theirs(x).detach())


@row(
    "model.double(), dense layers",
    keras="still casts its inputs to float32",
    torch="float64",
    mend="build it in float64: parity.float64()",
    unit="outputs",
    float32=True,
)
def double_dense():
    def make_keras():
        return keras.Sequential([keras.Input((4,)), layers.Dense(3)])

    x = torch.tensor(np.random.default_rng(0).normal(size=(8, 4)))
    before = doubled(make_keras, partial(nn.Linear, 4, 3), x)
    with parity.float64():
        return before, doubled(make_keras, partial(nn.Linear, 4, 3), x)


@row(
    "model.double(), convolutions",
    keras="refused when it is called",
    torch="float64",
    mend="build it in float64: parity.float64()",
    unit="outputs",
    float32=True,
)
def double_convolution():
    def make_keras():
        return keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(2, 3), layers.Flatten()])

    def make_torch():
        return nn.Sequential(Turned(), nn.Conv2d(1, 2, 3), Turned(back=True), nn.Flatten())

    x = torch.tensor(np.random.default_rng(0).normal(size=(8, 6, 6, 1)))
    before = refusal(lambda: doubled(make_keras, make_torch, x))
    with parity.float64():
        return before, doubled(make_keras, make_torch, x)


@row(
    "Hooks",
    keras="register_forward_hook, register_full_backward_hook work",
    torch="the same two",
    mend="nothing to do",
    unit="outputs of a layer and their gradient, as hooks see them",
)
def hooks():
    ours, theirs, outputs, gradients = make_keras_model(), make_torch_model().eval(), [], []
    parity.copy_weights(ours, theirs)
    for layer in (ours.layers[1], theirs[2]):
        layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output.detach()))
        layer.register_full_backward_hook(lambda layer, into, out: gradients.append(out[0]))
    ours.layers[1].epsilon = theirs[2].eps
    for model in (ours, theirs):
        model(draw(8, 4)).square().sum().backward()
    same = max(gap(*outputs), gap(*gradients))
    return same, same


@row(
    "FlopCounterMode",
    keras="counts",
    torch="counts",
    mend="nothing to do",
    unit="operations",
    chapter="13_defaults",
)
def flops():
    def counted(model):
        with FlopCounterMode(display=False) as counter:
            model(draw(8, 4))
        return counter.get_total_flops()

    same = abs(counted(make_keras_model()) - counted(make_torch_model()))
    return same, same


@row(
    "torch.utils.checkpoint",
    keras="works on a layer",
    torch="works on a layer",
    mend="nothing to do",
    unit="gradient of the kernel, with and without",
)
def checkpointing():
    dense, x = layers.Dense(3), draw(8, 4)
    (dense(x) ** 2).sum().backward()
    plain = dense.kernel.value.grad.clone()
    dense.zero_grad()
    (checkpoint(dense, x, use_reentrant=False) ** 2).sum().backward()
    same = gap(dense.kernel.value.grad, plain)
    return same, same


@row(
    "torch.export.export(strict=False)",
    keras="exports",
    torch="exports",
    mend="nothing to do: the same outputs",
    unit="outputs, before and after",
    chapter="13_defaults",
)
def export():
    model, x = make_keras_model(), draw(8, 4)
    exported = torch.export.export(model, (x,), strict=False).module()
    same = apart(model, exported)
    return same, same


@row(
    'model.export(format="torch")',
    keras="for batches of 1 alone",
    torch="torch.export.export: for batches of the size shown",
    mend='dynamic_shapes=({0: torch.export.Dim("batch")},)',
    unit="outputs for a batch of 8",
    chapter="13_defaults",
)
def export_batch():
    model, x = make_keras_model(), draw(8, 4)

    def exported(**settings):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.pt2")
            model.export(path, format="torch", verbose=False, **settings)
            return torch.export.load(path).module()

    before = refusal(lambda: exported()(x))
    any_size = exported(dynamic_shapes=({0: torch.export.Dim("batch")},))
    return before, apart(model, any_size)


@row(
    "0.1 * add_weight(...) in build",
    keras="an error at the second step",
    torch="0.1 * nn.Parameter(...): never trained, in silence",
    mend="multiply in call, or forward",
    unit="gradient of the second step",
    chapter="04_backpropagation",
)
def scaled_weight():
    class Scale(layers.Layer):
        def __init__(self, late):
            super().__init__()
            self.late = late

        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1],), initializer="ones")
            self.early = 0.1 * self.w

        def call(self, x):
            return x * (0.1 * self.w if self.late else self.early)

    def second(layer):
        for _ in range(2):
            layer.zero_grad()
            layer(draw(8, 4)).sum().backward()
        return layer.w.value.grad

    w = torch.ones(4, requires_grad=True)
    (draw(8, 4) * (0.1 * w)).sum().backward()
    return refusal(lambda: second(Scale(late=False))), gap(second(Scale(late=True)), w.grad)


# -------------------------------------------------------------------------------------- saving


def bytes_of(thing):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    return buffer


@saving(
    "state_dict() of one model, for another",
    keras="the keys hold each model's own names",
    torch="the same keys",
    mend="rename by position, or set_weights",
    unit="outputs",
)
def state_dict():
    ours, other = make_keras_model(), make_keras_model()
    before = refusal(lambda: other.load_state_dict(ours.state_dict()))
    renamed = dict(zip(other.state_dict(), ours.state_dict().values(), strict=True))
    other.load_state_dict(renamed)
    return before, apart(ours, other)


@saving(
    "state_dict() of a Sequential",
    keras="each tensor twice",
    torch="each once",
    mend="model.weights",
    unit="tensors too many",
)
def state_dict_twice():
    model = make_keras_model()
    every = {v.value.data_ptr() for v in model.variables}
    return len(model.state_dict()) - len(every), len(model.variables) - len(every)


@saving(
    "A copy without the file",
    keras="clone_model: new initial weights",
    torch="copy.deepcopy: the same weights",
    mend="copy.deepcopy",
    unit="outputs",
)
def clone():
    model = make_keras_model()
    return apart(model, keras.models.clone_model(model)), apart(model, copy.deepcopy(model))


@saving(
    "torch.save, pickle of a whole model",
    keras="works",
    torch="works",
    mend="nothing to do",
    unit="outputs",
)
def whole_model():
    model = make_keras_model()
    copies = pickle.loads(pickle.dumps(model)), torch.load(bytes_of(model), weights_only=False)
    same = max(apart(model, copy) for copy in copies)
    return same, same


@saving(
    "A file of the whole model",
    keras="model.save: .keras",
    torch="torch.save: weights_only=False to load it",
    mend="nothing to do",
    unit="outputs",
)
def keras_file():
    model = make_keras_model()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        same = apart(model, keras.saving.load_model(path))
    return same, same


def loaded_optimizer(build_first):
    """Train, save, load into a new model, train both on: how far apart are they?"""
    first, second = make_keras_model(), make_keras_model()
    for model in (first, second):
        model.compile(keras.optimizers.Adam(0.1), "mse")
    first.train_on_batch(draw(8, 4), draw(8, 3))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.weights.h5")
        first.save_weights(path)
        if build_first:
            second.optimizer.build(second.trainable_variables)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
            second.load_weights(path)
    for model in (first, second):
        model.train_on_batch(draw(8, 4), draw(8, 3))
    return apart(first, second)


@saving(
    "load_weights and the optimiser",
    keras="skips an optimiser that isn't built",
    torch="optimizer.load_state_dict: the whole state",
    mend="optimizer.build(model.trainable_variables) first",
    unit="outputs after one more step",
    chapter="07_dense",
)
def load_weights():
    return loaded_optimizer(build_first=False), loaded_optimizer(build_first=True)


@saving(
    "A seeded Dropout",
    keras=".keras doesn't hold its generator's state",
    torch="nor does state_dict(): it is PyTorch's own generator",
    mend="assign the state of its seed_generator",
    unit="masks of the model and of what is loaded",
    chapter="07_dense",
)
def seeded_dropout():
    model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5, seed=1)])
    model(torch.ones(8, 4), training=True)  # its first mask
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        other, third = keras.saving.load_model(path), keras.saving.load_model(path)
    mine, yours = (m.layers[0].seed_generator.state for m in (model, third))
    yours.assign(mine.value)
    masks = [m(torch.ones(8, 4), training=True) for m in (model, other, third)]
    return gap(masks[0], masks[1]), gap(masks[0], masks[2])


# ---------------------------------------------------------------------------- PyTorch in Keras


def wrapped(module, **settings):
    return keras.Sequential([keras.Input((4,)), layers.TorchModuleWrapper(module, **settings)])


@hybrid(
    "TorchModuleWrapper, its mode",
    keras="model(x): training, unlike a Keras layer",
    torch="model(x): training",
    mend="model(x, training=False)",
    unit="two outputs for one input, Dropout of 0.5",
)
def wrapper_mode():
    model, x = wrapped(nn.Dropout(0.5), output_shape=(None, 4)), draw(8, 4)
    before = gap(model(x), model(x))
    return before, gap(model(x, training=False), model(x, training=False))


@hybrid(
    "TorchModuleWrapper, a BatchNorm1d in it",
    keras="model(x) moves the statistics",
    torch="in training",
    mend="model(x, training=False)",
    unit="running mean, moved",
)
def wrapper_statistics():
    found = []
    for mode in ({}, {"training": False}):
        module = nn.BatchNorm1d(4)
        wrapped(module, output_shape=(None, 4))(3 + draw(8, 4), **mode)
        found.append(gap(module.running_mean, torch.zeros(4)))
    return tuple(found)


@hybrid(
    "TorchModuleWrapper, exported",
    keras="torch.export bakes Dropout in, even after eval()",
    torch="eval() is enough",
    mend="export a module that calls model(x, training=False)",
    unit="outputs, exported and in inference",
)
def wrapper_export():
    class Inference(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x, training=False)

    x, found = draw(8, 4), []
    for module in (nn.Identity, Inference):
        model = wrapped(nn.Dropout(0.5), output_shape=(None, 4))
        model.eval()
        held = model if module is nn.Identity else module(model)
        exported = torch.export.export(held, (x,), strict=False).module()
        found.append(gap(exported(x), model(x, training=False)))
    return tuple(found)


@hybrid(
    "TorchModuleWrapper without output_shape, Sequential",
    keras="parameters() misses what comes after it",
    torch="nn.Sequential: all",
    mend="output_shape=(None, 3)",
    unit="tensors that are missed",
)
def wrapper_shape():
    found = []
    for settings in ({}, {"output_shape": (None, 3)}):
        model = wrapped(nn.Linear(4, 3), **settings)
        model.add(layers.Dense(2))
        model(draw(8, 4))
        found.append(len(model.weights) - count(model.parameters()))
    return tuple(found)


@hybrid(
    "TorchModuleWrapper without output_shape, functional",
    keras="refused",
    torch="needs no shapes",
    mend="output_shape=(None, 3)",
    unit="outputs",
)
def wrapper_functional():
    linear, inputs = nn.Linear(4, 3), keras.Input((4,))
    before = refusal(lambda: layers.TorchModuleWrapper(linear)(inputs))
    outputs = layers.TorchModuleWrapper(linear, output_shape=(None, 3))(inputs)
    return before, apart(keras.Model(inputs, outputs), linear)


@hybrid(
    "A saved hybrid",
    keras="load_model refuses it: safe_mode=True",
    torch="torch.load refuses it: weights_only=True",
    mend="safe_mode=False, if you trust the file",
    unit="outputs",
)
def safe_mode():
    model = wrapped(nn.Linear(4, 3), output_shape=(None, 3))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "hybrid.keras")
        model.save(path)
        before = refusal(lambda: keras.saving.load_model(path))
        refusal(lambda: torch.load(bytes_of(model)))
        return before, apart(model, keras.saving.load_model(path, safe_mode=False))
