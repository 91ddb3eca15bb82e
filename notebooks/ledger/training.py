"""Rows of the ledger: what `fit` does beside the steps, metrics, and whole networks.

The two networks are twins: the same weights, and data of random numbers, 40 examples of 3 classes.
"""

import os
import tempfile
from functools import partial

import keras
import numpy as np
import torch
from keras import layers
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from helpers import parity, training

from . import entry
from .optimisers import EPS, KerasAdam, T
from .yardstick import draw, gap, nchw, refusal

row = partial(entry, "Training")
network = partial(entry, "Whole networks", chapter="13_defaults")
CE = partial(keras.losses.SparseCategoricalCrossentropy, from_logits=True)
N = 40
LABELS = torch.arange(N, device="cpu") % 3
HOW = {"batch_size": 16, "shuffle": False, "verbose": 0}  # the last batch has 8


# ------------------------------------------------------------------------------------ the tools


def twins(activation="tanh", dropout=0.0):
    """A network of 4, 6, 3 units in both frameworks, with the same weights."""
    middle = {"tanh": nn.Tanh, "relu": nn.ReLU}[activation]()
    keras_model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, activation=activation),
            layers.Dropout(dropout),
            layers.Dense(3),
        ]
    )
    torch_model = nn.Sequential(nn.Linear(4, 6), middle, nn.Dropout(dropout), nn.Linear(6, 3))
    parity.copy_weights(keras_model, torch_model)
    keras_model.compile(keras.optimizers.SGD(0.5), CE())
    return keras_model, torch_model


def loop(torch_model, batches, epochs=1, before_step=lambda step: None, make=T.SGD, lr=0.5):
    """Train, and return the loss and the size of each batch, taken just before its step."""
    optimizer, found = make(torch_model.parameters(), lr=lr), []
    for _ in range(epochs):
        for step, (x, y) in enumerate(batches):
            before_step(step)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(torch_model(x), y)
            loss.backward()
            optimizer.step()
            found.append((loss.item(), len(x)))
    return np.array(found).T


def cut(x, y=LABELS):
    return list(zip(x.split(16), y.split(16), strict=True))


@torch.no_grad()
def loss_of(torch_model, x, y=LABELS):
    return nn.functional.cross_entropy(torch_model.eval()(x), y).item()


def weights_gap(keras_model, torch_model):
    """The largest difference of any weight."""
    pairs = parity.pair(keras_model, torch_model)
    return max(gap(p.variable.value, p.to_keras(p.tensor)) for p in pairs)


# --------------------------------------------------------------------------------- what it shows


@row(
    "The size of a batch",
    keras="batch_size=32",
    torch="batch_size=1",
    mend="write it out",
    unit="steps in an epoch of 40 examples",
    chapter="06_data",
)
def batch_size():
    keras_model, _ = twins()
    ours = keras_model.fit(draw(N, 4), LABELS, verbose=0).params["steps"]
    data = TensorDataset(draw(N, 4), LABELS)
    return abs(ours - len(DataLoader(data))), abs(ours - len(DataLoader(data, batch_size=32)))


@row(
    "The loss of an epoch, its mean",
    keras="weighted by the examples",
    torch="yours: often the plain mean of the batches",
    mend="weight each batch by its size",
    unit="loss",
    chapter="05_optimisers",
)
def epoch_loss_mean():
    keras_model, torch_model = twins()
    ours = keras_model.fit(draw(N, 4), LABELS, **HOW).history["loss"][0]
    losses, sizes = loop(torch_model, cut(draw(N, 4)))
    return abs(ours - losses.mean()), abs(ours - np.average(losses, weights=sizes))


@row(
    "The loss of an epoch, its time",
    keras="each batch before its step",
    torch="yours: often after the epoch",
    mend="evaluate(x, y)",
    unit="loss",
    chapter="05_optimisers",
)
def epoch_loss_time():
    keras_model, torch_model = twins()
    ours = keras_model.fit(draw(N, 4), LABELS, **HOW).history["loss"][0]
    loop(torch_model, cut(draw(N, 4)))
    theirs = loss_of(torch_model, draw(N, 4))
    return abs(ours - theirs), abs(keras_model.evaluate(draw(N, 4), LABELS, verbose=0) - theirs)


@row(
    "The loss of a batch",
    keras="logs: the mean since the epoch began",
    torch="yours: the batch's own",
    mend="train_on_batch",
    unit="loss",
    chapter="07_dense",
)
def batch_loss():
    (first, torch_model), (second, _), logged = twins(), twins(), []
    second.set_weights(first.get_weights())
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: logged.append(float(logs["loss"]))
    )
    first.fit(draw(N, 4), LABELS, callbacks=[note], **HOW)
    alone = [float(second.train_on_batch(x, y)) for x, y in cut(draw(N, 4))]
    losses, _ = loop(torch_model, cut(draw(N, 4)))
    return gap(logged, losses), gap(alone, losses)


@row(
    "A custom train_step that returns its loss",
    keras='returns {"loss": ...}: history shows 0.0',
    torch="a list of your own",
    mend="_loss_tracker.update_state(loss), return get_metrics_result()",
    unit="loss in the history",
    chapter="11_torch_in_keras",
)
def train_step():
    class Step(keras.Model):
        tracked = False

        def train_step(self, data):
            loss = nn.functional.cross_entropy(self(data[0], training=True), data[1])
            if not self.tracked:
                return {"loss": loss.detach()}
            self._loss_tracker.update_state(loss.detach(), sample_weight=len(data[0]))
            return self.get_metrics_result()

    (keras_model, torch_model), found = twins(), []
    for tracked in (False, True):
        model = Step(keras_model.inputs, keras_model.outputs)
        model.tracked = tracked
        model.compile(keras.optimizers.SGD(0.5))
        found.append(model.fit(draw(N, 4), LABELS, **HOW).history["loss"][0])
    theirs = loss_of(torch_model, draw(N, 4))  # no step is taken
    return abs(found[0] - theirs), abs(found[1] - theirs)


# ------------------------------------------------------------------------------- which examples


class Orders(keras.Model):
    """Learns nothing; notes the first number of each example that `fit` gives it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x):
        return x

    def train_step(self, data):
        self.seen += data[0][:, 0].tolist()
        return {}


def keras_order(*data, **how):
    model = Orders()
    model.compile(loss="mse")
    model.fit(*data, verbose=0, **how)
    return np.array(model.seen)


def torch_order(batches, epochs=1):
    return np.array([float(i) for _ in range(epochs) for x, *_ in batches for i in x[:, 0]])


NUMBERS = torch.arange(N, dtype=torch.float64, device="cpu")[
    :, None
]  # each example is its own number
ORDER = "places of 40 with another example, part"


@row(
    "Shuffling",
    keras="shuffle=True",
    torch="shuffle=False",
    mend="write it out",
    unit=ORDER,
    chapter="06_data",
)
def shuffling():
    theirs = torch_order(DataLoader(TensorDataset(NUMBERS)))
    before, after = (keras_order(NUMBERS, NUMBERS, shuffle=shuffle) for shuffle in (True, False))
    return float((before != theirs).mean()), float((after != theirs).mean())


@row(
    "The order of the examples, with one seed",
    keras="two iterators an epoch draw from PyTorch's generator",
    torch="one iterator an epoch",
    mend="an order of (seed, epoch): helpers.training.Batches",
    unit=ORDER,
    chapter="06_data",
)
def order():
    torch.manual_seed(3)
    ours = keras_order(NUMBERS, NUMBERS, shuffle=True)
    torch.manual_seed(3)
    theirs = torch_order(DataLoader(TensorDataset(NUMBERS), shuffle=True))
    batches = training.Batches(NUMBERS, NUMBERS, 16, seed=3)
    told = keras_order(batches, shuffle=False, callbacks=[training.tell(batches)])
    batches.epoch = 0
    return float((ours != theirs).mean()), float((told != torch_order(batches)).mean())


@row(
    "validation_split",
    keras="the last part, before shuffling",
    torch="random_split: anywhere",
    mend="Subset(data, range(30, 40))",
    unit="validation loss, labels sorted",
    chapter="06_data",
)
def validation_split():
    (keras_model, torch_model), x, y = twins(), draw(N, 4), LABELS.sort().values
    keras_model.optimizer.learning_rate = 0.0
    ours = keras_model.fit(x, y, validation_split=0.25, **HOW).history["val_loss"][0]
    drawn = random_split(range(N), [0.75, 0.25])[1].indices
    before, after = (loss_of(torch_model, x[part], y[part]) for part in (drawn, range(30, 40)))
    return abs(ours - before), abs(ours - after)


@row(
    "A split that doesn't come out even",
    keras="validation_split=0.25 of 10: trains on 7",
    torch="random_split(data, [0.75, 0.25]): on 8",
    mend="random_split(data, [7, 3])",
    unit="examples",
    chapter="06_data",
)
def uneven_split():
    ours = len(set(keras_order(NUMBERS[:10], NUMBERS[:10], validation_split=0.25)))
    before, after = (len(random_split(range(10), parts)[0]) for parts in ([0.75, 0.25], [7, 3]))
    return abs(ours - before), abs(ours - after)


@row(
    "A loader, how often it is opened",
    keras="fit: twice an epoch, and once before",
    torch="a loop: once an epoch",
    mend="persistent_workers=True, so that its workers start once",
    unit="iterators in 5 epochs",
    chapter="06_data",
)
def opened():
    class Counting(DataLoader):
        count = 0

        def __iter__(self):
            self.count += 1
            return super().__iter__()

    ours, theirs = (Counting(TensorDataset(NUMBERS, NUMBERS), batch_size=N) for _ in "12")
    keras_order(ours, epochs=5, shuffle=False)
    torch_order(theirs, epochs=5)
    return ours.count - theirs.count, None


@row(
    "steps_per_execution",
    keras="more than 1 is refused on this backend",
    torch="has none",
    mend="leave it at 1",
    unit="error",
    chapter="07_dense",
)
def steps_per_execution():
    keras_model, _ = twins()
    keras_model.compile(loss=CE(), steps_per_execution=4)
    return refusal(lambda: keras_model.fit(draw(N, 4), LABELS, batch_size=10, verbose=0)), None


# --------------------------------------------------------------------------------- seeds, modes


@row(
    "torch.manual_seed",
    keras="initial weights come from Python's random",
    torch="from PyTorch's generator",
    mend="keras.utils.set_random_seed: seeds all",
    unit="initial weights, twice with one seed",
    chapter="07_dense",
)
def seeds():
    def start(seed, build):
        seed(1)
        return build()

    def ours():
        dense = layers.Dense(5)
        dense.build((None, 5))
        return dense.kernel.value.detach()

    def theirs():
        return nn.Linear(5, 5).weight.detach()

    every = keras.utils.set_random_seed
    before = gap(start(torch.manual_seed, ours), start(torch.manual_seed, ours))
    after = max(gap(start(every, build), start(every, build)) for build in (ours, theirs))
    return before, after


@row(
    "The mode of a new model",
    keras="model(x): inference",
    torch="model(x): training",
    mend="torch_model.eval(), or training=True",
    unit="outputs, Dropout of 0.5",
    chapter="10_keras_in_torch",
)
def mode():
    keras_model, torch_model = twins(dropout=0.5)
    ours = keras_model(draw(N, 4))
    before = gap(ours.detach(), torch_model(draw(N, 4)).detach())
    return before, gap(ours.detach(), torch_model.eval()(draw(N, 4)).detach())


@row(
    "Dropout, with one seed",
    keras="fit's iterators draw from PyTorch's generator, too",
    torch="nothing else draws",
    mend="torch.manual_seed before each step, in both",
    unit="weights after 6 steps",
    chapter="07_dense",
)
def dropout_seed():
    def run(before_step):
        keras_model, torch_model = twins(dropout=0.5)
        batches = training.Batches(draw(N, 4), LABELS, 16)
        told = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda b, logs: before_step(b))
        torch.manual_seed(7)
        keras_model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[told])
        torch.manual_seed(7)
        loop(torch_model, batches, 2, before_step)
        return weights_gap(keras_model, torch_model)

    return run(lambda step: None), run(lambda step: torch.manual_seed(step))


@row(
    "float64 inputs",
    keras="cast to float32",
    torch="refused",
    mend='x.astype("float32")',
    unit="outputs",
    chapter="01_concepts",
    float32=True,
)
def float64_inputs():
    dense, linear = layers.Dense(1), nn.Linear(1, 1)
    dense.build((None, 1))
    linear.weight.data, linear.bias.data = dense.kernel.value.data, dense.bias.value.data
    x = torch.ones(2, 1, dtype=torch.float64)
    return refusal(lambda: linear(x)), gap(dense(x).detach(), linear(x.float()).detach())


@row(
    "A picture layer called by hand",
    keras="RandomFlip(x) draws, whatever the mode",
    torch="a module of yours follows train() and eval()",
    mend="training=False",
    unit="pixels",
    chapter="11_torch_in_keras",
)
def augmentation():
    flip, pictures = layers.RandomFlip("horizontal", seed=0), draw(8, 4, 4, 1)
    return gap(flip(pictures), pictures), gap(flip(pictures, training=False), pictures)


# --------------------------------------------------------------------------- metrics, callbacks


def right(logits):
    """What a metric by hand says: how many of the labels 0 are found."""
    answers = logits.argmax(1)
    return float((answers[LABELS == 0] == 0).double().mean())


@row(
    "BinaryAccuracy of logits",
    keras="threshold=0.5",
    torch="(z > 0) == y",
    mend="threshold=0.0",
    unit="accuracy",
    chapter="09_judging",
)
def binary_accuracy():
    z = torch.linspace(-2, 2, 400)[:, None]
    metrics = keras.metrics.BinaryAccuracy(), keras.metrics.BinaryAccuracy(threshold=0.0)
    before, after = (abs(float(metric(z > 0, z)) - 1) for metric in metrics)
    return before, after


@row(
    "Precision(class_id=0) of logits",
    keras="counts p > 0.5, takes logits in silence",
    torch="argmax, by hand",
    mend="top_k=1",
    unit="precision",
    chapter="09_judging",
)
def precision():
    logits, y = 3 * draw(N, 3), nn.functional.one_hot(LABELS)
    chosen = logits.argmax(1) == 0
    by_hand = float((LABELS[chosen] == 0).double().mean())
    kinds = {}, {"top_k": 1}
    before, after = (
        abs(float(keras.metrics.Precision(class_id=0, **kind)(y, logits)) - by_hand)
        for kind in kinds
    )
    return before, after


@row(
    "F1Score of integer labels",
    keras="takes them for rows of zeros and ones",
    torch="by hand",
    mend="keras.ops.one_hot",
    unit="F1 of class 0",
    chapter="09_judging",
)
def f1_score():
    logits = 3 * draw(N, 3)
    hits, chosen = right(logits) * (LABELS == 0).sum(), (logits.argmax(1) == 0).sum()
    by_hand = 2 * hits / (chosen + (LABELS == 0).sum())
    kinds = LABELS[:, None], nn.functional.one_hot(LABELS)
    before, after = (gap(keras.metrics.F1Score()(y, logits)[0], by_hand) for y in kinds)
    return before, after


@row(
    "A function for a metric",
    keras="averaged over batches, by their sizes",
    torch="by hand, over all examples",
    mend="a keras.metrics.Metric that counts",
    unit="recall of class 0",
    chapter="09_judging",
)
def function_metric():
    def recall(y, logits):
        return (logits.argmax(1)[y == 0] == 0).double().mean()

    class Recall(keras.metrics.Mean):
        def update_state(self, y, logits, sample_weight=None):
            super().update_state(logits.argmax(1) == 0, sample_weight=y == 0)

    (keras_model, torch_model), x, found = twins(), draw(N, 4), []
    for metric in (recall, Recall(name="recall")):
        keras_model.compile(loss=CE(), metrics=[metric])
        found.append(keras_model.evaluate(x, LABELS, batch_size=16, verbose=0)[1])
    by_hand = right(torch_model(x))
    return abs(found[0] - by_hand), abs(found[1] - by_hand)


@row(
    "compile again, without metrics",
    keras="keeps the metrics that it had",
    torch="yours",
    mend="metrics=[]",
    unit="numbers too many from evaluate",
    chapter="07_dense",
)
def recompiled():
    keras_model, found = twins()[0], []
    for again in ({}, {"metrics": []}):
        keras_model.compile(loss=CE(), metrics=["accuracy"])
        keras_model.evaluate(draw(N, 4), LABELS, verbose=0)
        keras_model.compile(loss=CE(), **again)
        found.append(np.size(keras_model.evaluate(draw(N, 4), LABELS, verbose=0)) - 1)
    return tuple(found)


@row(
    "EarlyStopping(restore_best_weights=True)",
    keras="restores the best weights at the end in any case",
    torch="yours: often only where it stops",
    mend="a copy of the best state_dict, loaded at the end",
    unit="weights",
    chapter="07_dense",
)
def early_stopping():
    (keras_model, torch_model), x = twins(), draw(N, 4)
    stop = keras.callbacks.EarlyStopping(
        "loss", patience=9, mode="max", restore_best_weights=True
    )  # "max": the first epoch is the best, and nothing stops in three
    keras_model.fit(x, LABELS, epochs=3, callbacks=[stop], **HOW)
    loop(torch_model, cut(x))
    best = {name: value.clone() for name, value in torch_model.state_dict().items()}
    loop(torch_model, cut(x), epochs=2)
    before = weights_gap(keras_model, torch_model)
    torch_model.load_state_dict(best)
    return before, weights_gap(keras_model, torch_model)


@row(
    "ModelCheckpoint(save_best_only=True) after a nan",
    keras="a first nan stays the best",
    torch="yours: loss < best, from inf on",
    mend="TerminateOnNaN, or a check of your own",
    unit="epochs of 3 that are saved",
    chapter="13_defaults",
)
def checkpoint_nan():
    losses, best, theirs = [float("nan"), 2.0, 1.0], float("inf"), 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "{epoch}.weights.h5")
        keeper = keras.callbacks.ModelCheckpoint(path, save_best_only=True, save_weights_only=True)
        keeper.set_model(twins()[0])
        for epoch, loss in enumerate(losses):
            keeper.on_epoch_end(epoch, {"val_loss": loss})
            theirs, best = (theirs + 1, loss) if loss < best else (theirs, best)
        ours = sum(name != "1.weights.h5" for name in os.listdir(folder))
    return theirs - ours, None


# ------------------------------------------------------------------------------- whole networks


DIGITS = load_digits()


def digit_twins(activation="relu", pictures=False):
    """16 hidden units, or 4 filters of 3 × 3, and 10 outputs for digits of 8 × 8 pixels."""
    middle = {"tanh": nn.Tanh, "relu": nn.ReLU}[activation]()
    first = layers.Conv2D(4, 3) if pictures else layers.Dense(16)
    inputs = keras.Input((8, 8, 1) if pictures else (64,))
    act, last = layers.Activation(activation), layers.Dense(10)
    keras_model = keras.Sequential([inputs, first, act, layers.Flatten(), last])
    first = nn.Conv2d(1, 4, 3) if pictures else nn.Linear(64, 16)
    torch_model = nn.Sequential(first, middle, nn.Flatten(), nn.Linear(144 if pictures else 16, 10))
    parity.copy_weights(keras_model, torch_model)
    return keras_model, torch_model


def digits(pictures, n):
    x = torch.tensor(DIGITS.data[:n] / 16, dtype=torch.get_default_dtype())
    return x.reshape(n, 8, 8, 1) if pictures else x, torch.tensor(DIGITS.target[:n])


def report(kind, activation="relu", pictures=False, steps=50, what="loss at each", n=800):
    """The largest relative difference in `what`, with Keras' Adam and PyTorch's `kind`."""
    models = digit_twins(activation, pictures)
    rows = parity.compare(
        *models,
        *digits(pictures, n),
        loss=(CE(), nn.CrossEntropyLoss()),
        optimizers=(keras.optimizers.Adam(0.01), kind(models[1].parameters(), lr=0.01)),
        steps=steps,
        batch_size=16,
    ).rows
    return max(r.difference for r in rows if r.name.startswith(what))


LOSS = "loss over 50 steps, relative"


def with_adam(name, activation, pictures):
    """Enter the row of one network that Adam trains."""

    @network(
        f"{name}, Adam as it comes",
        keras="epsilon=1e-7, uncorrected",
        torch="eps=1e-8, corrected",
        mend=EPS,
        unit=LOSS,
    )
    def adam():
        return report(T.Adam, activation, pictures), report(KerasAdam, activation, pictures)


with_adam("A dense network with tanh", "tanh", pictures=False)
with_adam("A dense network with ReLU", "relu", pictures=False)
with_adam("A convolutional network with tanh", "tanh", pictures=True)
with_adam("A convolutional network with ReLU", "relu", pictures=True)


@network(
    "A dense network with ReLU, the same epsilon in both",
    keras="epsilon=1e-7, uncorrected",
    torch="eps=1e-7, corrected",
    mend=EPS,
    unit=LOSS,
)
def same_epsilon():
    return report(partial(T.Adam, eps=1e-7)), report(KerasAdam)


@network(
    "A dense network, PyTorch's Adam for both",
    keras="torch.optim.Adam(keras_model.parameters())",
    torch="torch.optim.Adam(torch_model.parameters())",
    mend="nothing to do",
    unit="loss over 12 steps",
)
def one_optimizer():
    same = gap(*(loop(m, cut(draw(N, 4)), 4, make=T.Adam, lr=0.01)[0] for m in twins("relu")))
    return same, same


@network(
    "A dense network with BatchNormalization",
    keras="momentum=0.99, epsilon=0.001, variance / N",
    torch="momentum=0.1, eps=1e-05, variance / (N - 1)",
    mend="momentum=0.9, epsilon=1e-5 in Keras; running_var corrected",
    unit="outputs in evaluation, after 10 steps",
)
def batch_norm():
    def run(correct, **settings):
        keras_model = keras.Sequential(
            [keras.Input((4,)), layers.BatchNormalization(**settings), layers.Dense(3)]
        )
        torch_model, x = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), 3 * draw(N, 4)
        parity.copy_weights(keras_model, torch_model)
        keras_model.compile(keras.optimizers.SGD(0.5), CE())
        keras_model.fit(x, LABELS, batch_size=8, epochs=2, shuffle=False, verbose=0)
        loop(torch_model, list(zip(x.split(8), LABELS.split(8), strict=True)), 2)
        if correct:  # of the 1 that it began with, 0.9**10 is left; the rest came from batches
            left, variance = 0.9**10, torch_model[0].running_var
            variance.copy_(left + (variance - left) * 7 / 8)
        return gap(keras_model(x).detach(), torch_model.eval()(x).detach())

    return run(False), run(True, momentum=0.9, epsilon=1e-5)


@network(
    "float32, outputs",
    keras="the same weights",
    torch="the same weights",
    mend="nothing to do: rounding",
    unit="outputs",
    bound=1e-6,  # float32's rounding, 6e-8, ten times, of outputs of 1 or 2
    float32=True,
)
def float32_outputs():
    worst = 0.0
    for pictures in (False, True):
        (keras_model, torch_model), (x, _) = digit_twins("relu", pictures), digits(pictures, 40)
        theirs = torch_model(nchw(x) if pictures else x)
        worst = max(worst, gap(keras_model(x).detach(), theirs.detach()))
    return worst, worst


@network(
    "float32, gradients",
    keras="the same weights",
    torch="the same weights",
    mend="nothing to do: rounding",
    unit="gradients of 40 digits, relative",
    bound=1e-5,  # a hundred roundings of 6e-8, as in helpers.parity
    float32=True,
)
def float32_gradients():
    worst = max(
        report(KerasAdam, pictures=pictures, steps=1, what="gradient", n=40)
        for pictures in (False, True)
    )
    return worst, worst


@network(
    "float32, Adam, the first ten losses",
    keras="epsilon=1e-7, uncorrected",
    torch="eps=1e-8, corrected",
    mend=EPS,
    unit="loss over 10 steps, relative",
    bound=1e-5,  # a hundred roundings; later a ReLU may flip, and Adam magnifies that
    float32=True,
)
def float32_losses():
    return report(T.Adam, steps=10), report(KerasAdam, steps=10)


@network(
    "fit and a loop: four epochs of losses",
    keras="shuffled by its own iterators",
    torch="a loop over a shuffled DataLoader",
    mend="helpers.training.Batches, and means weighted by size",
    unit="loss and val_loss of four epochs",
)
def histories():
    x, y, found = draw(N, 4), LABELS, []
    held = {"validation_data": (x[32:], y[32:]), "epochs": 4, "verbose": 0}
    batches = training.Batches(x[:32], y[:32], 12, seed=1)
    runs = (
        ((x[:32], y[:32]), {"batch_size": 12}, None),
        ((batches,), {"shuffle": False, "callbacks": [training.tell(batches)]}, batches),
    )
    for data, how, theirs in runs:
        torch.manual_seed(1)
        keras_model, torch_model = twins()
        history = keras_model.fit(*data, **how, **held).history
        torch.manual_seed(1)
        loader = DataLoader(TensorDataset(x[:32], y[:32]), batch_size=12, shuffle=True)
        torch_history = training.fit(
            torch_model,
            theirs or loader,
            optimizer=T.SGD(torch_model.parameters(), lr=0.5),
            loss_fn=nn.CrossEntropyLoss(),
            epochs=4,
            validation=[(x[32:], y[32:])],
            verbose=0,
        ).history
        found.append(max(gap(history[k], torch_history[k]) for k in ("loss", "val_loss")))
    return tuple(found)
