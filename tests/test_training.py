"""That helpers.training trains as Keras' `fit` does, says what it says, and what it refuses."""

import re
import time

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from helpers import parity, training

N, FEATURES, CLASSES = 203, 12, 4  # 203: the last batch is smaller than the others


def data(dtype="float64"):
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, FEATURES)).astype(dtype), rng.integers(0, CLASSES, N)


def make_torch_model(dropout=0.0):
    return nn.Sequential(
        nn.Linear(FEATURES, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, CLASSES)
    )


def make_twins():
    keras_model = keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(8), layers.ReLU(), layers.Dense(CLASSES)]
    )
    torch_model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    parity.copy_weights(keras_model, torch_model)
    return keras_model, torch_model


def train(model, batches, lr=0.1, **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    settings = {"optimizer": optimizer, "loss_fn": nn.CrossEntropyLoss(), "verbose": 0} | kwargs
    return training.fit(model, batches, **settings)


def both(epochs=3, verbose=0):
    """The histories of both frameworks on the same weights and batches, and the models."""
    x, y = data()
    batches = training.Batches(x, y, 20, seed=0)
    validation = training.Batches(x[:50], y[:50], 16)
    keras_model, torch_model = make_twins()
    keras_model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    keras_history = keras_model.fit(
        batches, epochs=epochs, shuffle=False, validation_data=validation,
        callbacks=[training.tell(batches)], verbose=verbose,
    )  # fmt: skip
    torch_history = train(
        torch_model, batches, epochs=epochs, validation=validation, verbose=verbose
    )
    return keras_history, torch_history, keras_model, torch_model


# ------------------------------------------------------------------------ the same as Keras' fit


def test_the_history_is_that_of_keras():
    with parity.float64():
        keras_history, torch_history, *_ = both()
    assert isinstance(torch_history, keras.callbacks.History)
    assert list(torch_history.history) == list(keras_history.history)
    assert torch_history.epoch == keras_history.epoch == [0, 1, 2]
    assert torch_history.params == keras_history.params
    for name, values in keras_history.history.items():
        # Keras keeps its running means in float32, whatever the model computes in.
        np.testing.assert_allclose(torch_history.history[name], values, rtol=2**-22)


def test_the_weights_are_those_of_keras():
    with parity.float64():
        *_, keras_model, torch_model = both()
        keras_W = keras_model.get_weights()[0]
    torch_W = torch_model[0].weight.detach().numpy().T
    np.testing.assert_allclose(torch_W, keras_W, rtol=0, atol=1e-13)  # 33 steps, values near 1


def said(text):
    """What a progress bar says once it is full, without times, colours and cursor moves."""
    text = re.sub(r"\x1b\[\d+m|\x08", "", text)
    lines = [line.rpartition("\r")[2] for line in text.split("\n")]
    return [re.sub(r"\d+s(?=\s)|\d+(s|ms|us)/step", "", line).rstrip() for line in lines]


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_the_progress_bar_is_that_of_keras(verbose, capsys):
    with parity.float64():
        both(epochs=2, verbose=verbose)
    lines = said(capsys.readouterr().out)
    lines = [line for line in lines if line]
    half = len(lines) // 2
    assert lines[:half] == lines[half:]
    assert half == (0 if verbose == 0 else 4)
    if verbose:
        assert lines[0] == "Epoch 1/2"
        assert re.search(r"11/11 .*accuracy: 0\.\d{4} - loss: .*val_accuracy.*val_loss", lines[1])


def test_the_bar_moves_while_training_and_shows_running_means(capsys):
    x, y = data("float32")
    losses = iter([1.0, 3.0, 8.0])

    def loss_fn(logits, y):
        time.sleep(0.06)  # longer than the bar waits between two drawings
        return 0 * logits.sum() + next(losses)

    train(make_torch_model(), [(x, y)] * 3, loss_fn=loss_fn, verbose=1)
    drawn = capsys.readouterr().out.split("\r")[1:]
    assert [re.search(r"\d+/3", bar)[0] for bar in drawn] == ["1/3", "2/3", "3/3", "3/3"]
    assert [float(re.search(r"loss: ([\d.]+)", bar)[1]) for bar in drawn] == [1, 2, 4, 4]


# ----------------------------------------------------------------------------------- the batches


def test_an_epoch_sees_every_example_once_in_an_order_of_its_own():
    orders = [tuple(training.epoch_order(100, *key)) for key in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(100)) for order in orders)


def test_the_order_is_the_same_for_ever():
    """A run is to be repeated years later. Should NumPy ever shuffle otherwise, this says so."""
    assert training.epoch_order(6, seed=0, epoch=0).tolist() == [1, 4, 5, 3, 2, 0]


def test_batches_hold_examples_and_labels_together():
    x = np.arange(N)
    batches = training.Batches(x, -x, 20, seed=3)
    sizes = [len(a) for a, _ in batches]
    assert sizes == [20] * 10 + [3]
    assert all((a == -b).all() for a, b in batches)
    first = np.concatenate([a for a, _ in batches])
    batches.epoch = 1
    second = np.concatenate([a for a, _ in batches])
    assert (np.sort(second) == x).all() and (first != second).any()
    batches.epoch = 0
    assert (np.concatenate([a for a, _ in batches]) == first).all()


def test_without_a_seed_the_order_is_that_of_the_arrays():
    x = np.arange(N)
    batches = training.Batches(x, x, 20)
    batches.epoch = 7
    assert (np.concatenate([a for a, _ in batches]) == x).all()


class Watched:
    """Batches that note which examples were asked for."""

    def __init__(self, loader):
        self.loader, self.sampler, self.seen = loader, getattr(loader, "sampler", None), []

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for x, y in self.loader:
            self.seen.append(y.tolist())
            yield x, y


def test_a_sampler_is_told_the_epoch():
    class Ordered(torch.utils.data.Sampler):
        epoch = 0

        def __iter__(self):
            return iter(training.epoch_order(N, 0, self.epoch).tolist())

        def __len__(self):
            return N

    x, y = map(torch.from_numpy, data("float32"))
    loader = DataLoader(TensorDataset(x, y), batch_size=20, sampler=Ordered())
    watched = Watched(loader)
    train(make_torch_model(), watched, epochs=2)
    orders = [training.epoch_order(N, 0, epoch) for epoch in (0, 1)]
    seen = [label for labels in watched.seen for label in labels]
    assert seen == y[np.concatenate(orders)].tolist()


def test_a_list_a_loader_and_batches_train_alike():
    x, y = data("float32")
    start = make_torch_model().state_dict()
    kinds = [
        training.Batches(x, y, 20),
        [(x[i : i + 20], y[i : i + 20]) for i in range(0, N, 20)],
        DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=20),
    ]
    losses = []
    for batches in kinds:
        model = make_torch_model()
        model.load_state_dict(start)
        losses.append(train(model, batches, epochs=2).history["loss"])
    assert losses[0] == losses[1] == losses[2]


# ------------------------------------------------------------------------------- modes and means


class Modes(nn.Module):
    """A network that notes in which mode it was called, and whether gradients were on."""

    def __init__(self):
        super().__init__()
        self.inner, self.frozen, self.calls = make_torch_model(), nn.Dropout(), []
        self.frozen.eval()

    def forward(self, x):
        self.calls.append((self.training, self.frozen.training, torch.is_grad_enabled()))
        return self.inner(x)


def test_training_and_evaluation_have_their_modes():
    x, y = data("float32")
    model = Modes()
    train(model, training.Batches(x, y, 203), validation=training.Batches(x, y, 203), epochs=2)
    assert model.calls == [(True, True, True), (False, False, False)] * 2
    assert not model.training


def test_a_keras_model_is_told_its_mode():
    """Its own `train()` reaches no Dropout: without `training=` it would never drop."""
    x, y = data("float32")
    model = keras.Sequential([keras.Input((FEATURES,)), layers.Dropout(0.5), layers.Dense(CLASSES)])
    modes = []
    call = model.layers[0].call
    model.layers[0].call = lambda x, training: modes.append(training) or call(x, training=training)
    train(model, [(x, y)], validation=[(x, y)])
    training.predict(model, x, batch_size=N)
    assert modes == [True, False, False]


def test_evaluate_and_predict_leave_every_mode_as_it_was():
    x, y = data("float32")
    model = Modes()
    training.evaluate(model, training.Batches(x, y, 203), nn.CrossEntropyLoss())
    training.predict(model, x, batch_size=203)
    assert model.calls == [(False, False, False)] * 2
    assert model.training and not model.frozen.training
    with pytest.raises(RuntimeError):
        training.predict(model, x[:, :3])
    assert model.training and torch.is_grad_enabled()


def test_an_interrupted_run_leaves_evaluation_mode():
    x, y = data("float32")
    model = make_torch_model(dropout=0.5)
    with pytest.raises(RuntimeError):
        train(model, [(x, y), (x[:, :3], y)])
    assert not model.training


def test_means_are_over_examples_not_batches():
    x, y = data("float64")
    model = make_torch_model().double()
    whole = training.evaluate(model, [(x, y)], nn.CrossEntropyLoss())
    parts = training.evaluate(model, training.Batches(x, y, 20), nn.CrossEntropyLoss())
    assert parts == pytest.approx(whole, rel=1e-14)
    batches = [(x[:200], y[:200]), (x[200:], y[200:])]
    losses = [training.evaluate(model, [b], nn.CrossEntropyLoss())["loss"] for b in batches]
    assert abs(np.mean(losses) - whole["loss"]) > 1e-4  # the mean of the batches is another number


def test_the_loss_of_an_epoch_is_taken_before_each_step():
    x, y = data("float64")
    model = make_torch_model().double()
    before = training.evaluate(model, [(x, y)], nn.CrossEntropyLoss())["loss"]
    history = train(model, [(x, y)], validation=[(x, y)])
    assert history.history["loss"] == [before]
    assert history.history["val_loss"][0] < before


def test_predict_gives_what_the_model_gives():
    x, _ = data("float32")
    model = make_torch_model()
    logits = training.predict(model, x, batch_size=7)
    assert logits.shape == (N, CLASSES)
    # Batches of another size may be multiplied in another order.
    np.testing.assert_allclose(logits, model(torch.from_numpy(x)).detach(), atol=1e-6)


def test_metrics_of_ones_own_and_none():
    x, _ = data("float32")
    target = x[:, :1]
    model = nn.Linear(FEATURES, 1)
    metrics = {"worst": lambda outputs, target: (outputs - target).abs().max()}
    history = train(model, [(x, target)], loss_fn=nn.MSELoss(), metrics=metrics)
    assert list(history.history) == ["worst", "loss"]
    history = train(model, [(x, target)], loss_fn=nn.MSELoss(), metrics={})
    assert list(history.history) == ["loss"]
    with pytest.raises(ValueError, match="metrics="):
        train(model, [(x, target)], loss_fn=nn.MSELoss())


# -------------------------------------------------------------------- schedules, ends, resumption


def test_the_schedule_takes_one_step_a_batch():
    x, y = data("float32")
    model = make_torch_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    batches = training.Batches(x, y, 20)
    train(model, batches, optimizer=optimizer, scheduler=scheduler)
    assert scheduler.get_last_lr() == [0.5**11]


def test_training_ends_where_it_is_told_to():
    x, y = data("float32")
    heard, model = [], make_torch_model()

    def stop(epoch, logs):
        heard.append((epoch, sorted(logs)))
        assert not model.training
        return epoch == 1

    history = train(model, [(x, y)], epochs=5, on_epoch_end=stop, validation=[(x, y)])
    names = ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert heard == [(0, names), (1, names)]
    assert history.epoch == [0, 1] and len(history.history["val_loss"]) == 2


def test_a_resumed_run_is_the_run_that_never_stopped():
    x, y = data("float32")
    start = make_torch_model().state_dict()
    batches = training.Batches(x, y, 20, seed=0)

    def fresh():
        model = make_torch_model()
        model.load_state_dict(start)
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    whole, optimizer = fresh()
    expected = train(whole, batches, optimizer=optimizer, epochs=4)
    model, optimizer = fresh()
    first = train(model, batches, optimizer=optimizer, epochs=2)
    second = train(model, batches, optimizer=optimizer, initial_epoch=2, epochs=4)
    assert first.epoch + second.epoch == expected.epoch
    assert first.history["loss"] + second.history["loss"] == expected.history["loss"]
    for ours, theirs in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# ---------------------------------------------------------------------------------- what can't be


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"batches": []}, "No batch came"),
        ({"loss_fn": nn.CrossEntropyLoss(reduction="none")}, r"shape \(203,\), not one number"),
        ({"model": nn.ReLU()}, "no parameters"),
        ({"optimizer": torch.optim.SGD([nn.Parameter(torch.ones(1))])}, "none of this model's"),
        ({"initial_epoch": 3}, "initial_epoch=3 and epochs=1"),
        ({"validation": iter([])}, "No batch came"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(kwargs, says):
    x, y = data("float32")
    model = make_torch_model()
    settings = {
        "model": model,
        "batches": [(x, y)],
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loss_fn": nn.CrossEntropyLoss(),
        "verbose": 0,
    }
    with pytest.raises(ValueError, match=says):
        training.fit(**settings | kwargs)


def test_inputs_of_another_type_are_refused_in_a_sentence():
    x, y = data("float64")
    model = make_torch_model()
    calls = [
        lambda: train(model, [(x, y)]),
        lambda: training.evaluate(model, [(x, y)], nn.CrossEntropyLoss()),
        lambda: training.predict(model, x),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"float64, the model's parameters torch\.float32"):
            call()
    words = nn.Embedding(5, 3)  # whole numbers go in as they are
    assert training.predict(words, np.arange(5)).shape == (5, 3)


def test_arrays_that_run_backwards_or_are_locked_are_taken():
    x, y = data("float32")
    x.flags.writeable = y.flags.writeable = False
    model = make_torch_model()
    ours = training.predict(model, x[::-1], batch_size=N)
    assert np.array_equal(ours, training.predict(model, x[::-1].copy(), batch_size=N))
    train(model, [(x[::-1], y[::-1])])


def test_a_schedule_that_needs_the_loss_is_refused():
    x, y = data("float32")
    model = make_torch_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(ValueError, match="on_epoch_end"):
        train(model, [(x, y)], optimizer=optimizer, scheduler=plateau)


@pytest.mark.parametrize(
    ("x", "y", "batch_size", "says"),
    [
        ([1, 2], [1], 1, "2 examples and 1 labels"),
        ([], [], 1, "at least one"),
        ([1], [1], 0, "batches of 0"),
    ],
)
def test_batches_that_cannot_be(x, y, batch_size, says):
    with pytest.raises(ValueError, match=says):
        training.Batches(x, y, batch_size)
    with pytest.raises(IndexError, match="no batch 1"):
        training.Batches([1], [1], 1)[1]
