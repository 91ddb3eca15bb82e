"""That the ledger's rows of optimisers, training and interop say what the signatures say."""

import importlib
import inspect
import re
from pathlib import Path

import keras
import pytest
import torch
from keras.callbacks import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from keras.optimizers import schedules
from torch.optim import lr_scheduler
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

ledger = importlib.import_module("notebooks.ledger")
MODULES = ("optimisers", "training", "interop", "surprises")
for module in MODULES:
    importlib.import_module(f"notebooks.ledger.{module}")
ROWS = [e for e in ledger.ENTRIES if e.run.__module__.rpartition(".")[2] in MODULES]
BY_NAME = {e.name: e for e in ROWS}
CHAPTERS = Path(__file__).parents[1] / "notebooks"
K, T = keras.optimizers, torch.optim

DEFAULTS = [  # the row, its side, what has the default, the parameter, the default
    ("SGD, learning rate", "keras", K.SGD, "learning_rate", 0.01),
    ("SGD, learning rate", "torch", T.SGD, "lr", 0.001),
    ("RMSprop, learning rate", "keras", K.RMSprop, "learning_rate", 0.001),
    ("RMSprop, learning rate", "torch", T.RMSprop, "lr", 0.01),
    ("Adagrad, learning rate", "keras", K.Adagrad, "learning_rate", 0.001),
    ("Adagrad, learning rate", "torch", T.Adagrad, "lr", 0.01),
    ("Adam, learning rate", "keras", K.Adam, "learning_rate", 0.001),
    ("Adam, learning rate", "torch", T.Adam, "lr", 0.001),
    ("AdamW, learning rate", "keras", K.AdamW, "learning_rate", 0.001),
    ("AdamW, learning rate", "torch", T.AdamW, "lr", 0.001),
    ("Adamax, learning rate", "keras", K.Adamax, "learning_rate", 0.001),
    ("Adamax, learning rate", "torch", T.Adamax, "lr", 0.002),
    ("Nadam, learning rate", "keras", K.Nadam, "learning_rate", 0.001),
    ("Nadam, learning rate", "torch", T.NAdam, "lr", 0.002),
    ("Adadelta, learning rate", "keras", K.Adadelta, "learning_rate", 0.001),
    ("Adadelta, learning rate", "torch", T.Adadelta, "lr", 1.0),
    ("Adafactor, learning rate", "keras", K.Adafactor, "learning_rate", 0.001),
    ("Adafactor, learning rate", "torch", T.Adafactor, "lr", 0.01),
    ("SGD, momentum, Nesterov", "keras", K.SGD, "momentum", 0.0),
    ("SGD, momentum, Nesterov", "keras", K.SGD, "nesterov", False),
    ("SGD, momentum, Nesterov", "torch", T.SGD, "momentum", 0),
    ("SGD, momentum, Nesterov", "torch", T.SGD, "nesterov", False),
    ("RMSprop, what is kept of the mean square", "keras", K.RMSprop, "rho", 0.9),
    ("RMSprop, what is kept of the mean square", "torch", T.RMSprop, "alpha", 0.99),
    ("RMSprop, epsilon", "keras", K.RMSprop, "epsilon", 1e-7),
    ("RMSprop, epsilon", "torch", T.RMSprop, "eps", 1e-8),
    (
        "Adagrad, where the sum of squares starts",
        "keras",
        K.Adagrad,
        "initial_accumulator_value",
        0.1,
    ),
    (
        "Adagrad, where the sum of squares starts",
        "torch",
        T.Adagrad,
        "initial_accumulator_value",
        0,
    ),
    ("Adagrad, epsilon", "keras", K.Adagrad, "epsilon", 1e-7),
    ("Adagrad, epsilon", "torch", T.Adagrad, "eps", 1e-10),
    ("Adam, epsilon", "keras", K.Adam, "epsilon", 1e-7),
    ("Adam, epsilon", "torch", T.Adam, "eps", 1e-8),
    ("AdamW, decay", "keras", K.AdamW, "weight_decay", 0.004),
    ("AdamW, decay", "torch", T.AdamW, "weight_decay", 0.01),
    ("Adamax, epsilon", "keras", K.Adamax, "epsilon", 1e-7),
    ("Adamax, epsilon", "torch", T.Adamax, "eps", 1e-8),
    ("Nadam, the momentum's schedule", "torch", T.NAdam, "momentum_decay", 0.004),
    ("Nadam, epsilon", "keras", K.Nadam, "epsilon", 1e-7),
    ("Nadam, epsilon", "torch", T.NAdam, "eps", 1e-8),
    ("Adadelta, what is kept", "keras", K.Adadelta, "rho", 0.95),
    ("Adadelta, what is kept", "torch", T.Adadelta, "rho", 0.9),
    ("Adadelta, epsilon", "keras", K.Adadelta, "epsilon", 1e-7),
    ("Adadelta, epsilon", "torch", T.Adadelta, "eps", 1e-6),
    ("Lion", "keras", K.Lion, "beta_1", 0.9),
    ("Lion", "keras", K.Lion, "beta_2", 0.99),
    ("Adafactor, the least mean square", "keras", K.Adafactor, "epsilon_1", 1e-30),
    ("Adafactor, the least mean square", "torch", T.Adafactor, "eps", (None, 1e-3)),
    ("A moving average, its memory", "keras", K.SGD, "ema_momentum", 0.99),
    ("A moving average, its memory", "torch", get_ema_multi_avg_fn, "decay", 0.999),
    ("CosineDecay, after its end", "keras", schedules.CosineDecay, "alpha", 0.0),
    ("CosineDecayRestarts", "keras", schedules.CosineDecayRestarts, "t_mul", 2.0),
    ("CosineDecayRestarts", "torch", lr_scheduler.CosineAnnealingWarmRestarts, "T_mult", 1),
    ("PolynomialDecay", "keras", schedules.PolynomialDecay, "end_learning_rate", 1e-4),
    ("ReduceLROnPlateau, patience", "keras", ReduceLROnPlateau, "patience", 10),
    ("ReduceLROnPlateau, patience", "torch", lr_scheduler.ReduceLROnPlateau, "patience", 10),
    ("ReduceLROnPlateau, what counts as better", "keras", ReduceLROnPlateau, "min_delta", 1e-4),
    (
        "ReduceLROnPlateau, what counts as better",
        "torch",
        lr_scheduler.ReduceLROnPlateau,
        "threshold",
        1e-4,
    ),
    (
        "ReduceLROnPlateau, what counts as better",
        "torch",
        lr_scheduler.ReduceLROnPlateau,
        "threshold_mode",
        "rel",
    ),
    ("ReduceLROnPlateau, the least change", "keras", ReduceLROnPlateau, "min_lr", 0.0),
    ("ReduceLROnPlateau, the least change", "torch", lr_scheduler.ReduceLROnPlateau, "eps", 1e-8),
    ("The size of a batch", "torch", DataLoader, "batch_size", 1),
    ("Shuffling", "keras", keras.Model.fit, "shuffle", True),
    ("BinaryAccuracy of logits", "keras", keras.metrics.BinaryAccuracy, "threshold", 0.5),
    (
        "A dense network with BatchNormalization",
        "keras",
        keras.layers.BatchNormalization,
        "momentum",
        0.99,
    ),
    (
        "A dense network with BatchNormalization",
        "keras",
        keras.layers.BatchNormalization,
        "epsilon",
        0.001,
    ),
    ("A dense network with BatchNormalization", "torch", torch.nn.BatchNorm1d, "momentum", 0.1),
    ("A dense network with BatchNormalization", "torch", torch.nn.BatchNorm1d, "eps", 1e-5),
    ("A saved hybrid", "keras", keras.saving.load_model, "safe_mode", True),
]


def test_every_module_has_rows_with_names_of_their_own():
    assert len(ROWS) > 100 and len(BY_NAME) == len(ROWS)
    assert {e.run.__module__.rpartition(".")[2] for e in ROWS} == set(MODULES)


@pytest.mark.parametrize(("name", "side", "owner", "parameter", "default"), DEFAULTS)
def test_a_default_is_the_signature_s_and_stands_in_the_row(name, side, owner, parameter, default):
    assert inspect.signature(owner).parameters[parameter].default == default
    text = getattr(BY_NAME[name], side)
    said = re.search(rf"\b{parameter}=(\(.*?\)|'.*?'|[^,;:)\s]+)", text)
    assert said, f"{name}: {parameter} isn't in {text!r}"
    assert eval(said[1], {}) == default


def test_no_row_names_a_default_that_is_not_checked():
    checked = {(name, side, parameter) for name, side, _, parameter, _ in DEFAULTS}
    written = {  # an argument that the reader gives, no default
        "the same epsilon": ("epsilon", "eps"),
        "Adam, gradients": ("epsilon", "eps"),
        "Adam as it comes": ("epsilon", "eps"),
        "float32, Adam": ("epsilon", "eps"),
        "A split that": ("validation_split",),
        "A saved hybrid": ("weights_only",),
        "A file of the whole": ("weights_only",),
        "mixed_bfloat16": ("dtype",),
        "The size of a batch": ("batch_size",),  # Keras': measured, since its signature says None
        "Shuffling": ("shuffle",),  # PyTorch's says None, for False
    }
    for e in ROWS:
        for side in ("keras", "torch"):
            for parameter in re.findall(r"\b(\w+)=", getattr(e, side)):
                given = any(part in e.name and parameter in p for part, p in written.items())
                assert given or (e.name, side, parameter) in checked, (e.name, side, parameter)


def test_epsilon_as_it_comes_is_what_the_optimisers_have():
    for e in ROWS:
        if "as it comes" in e.name or e.name.startswith("Adam, gradients"):
            assert e.keras.startswith("epsilon=1e-7") and e.torch.startswith("eps=1e-8")


@pytest.mark.parametrize("e", ROWS, ids=lambda e: e.name)
def test_a_row_is_complete(e):
    for text in (e.name, e.keras, e.torch, e.mend, e.unit):
        assert text.strip() == text and 0 < len(text) < 75, text
    planned = ("10_keras_in_torch", "11_torch_in_keras", "12_weights", "13_defaults")
    assert e.chapter in planned or (CHAPTERS / f"{e.chapter}.ipynb").exists()
    lines = [line for line in inspect.getsource(e.run).splitlines() if line.strip()]
    body = lines[next(i for i, line in enumerate(lines) if line.lstrip().startswith("def ")) :]
    assert len(body) < 30, len(body)


def test_what_is_said_of_batches_is_so():
    """Defaults that stand in no signature."""
    assert DataLoader([1]).batch_size == 1
    assert isinstance(DataLoader([1]).sampler, torch.utils.data.SequentialSampler)
    assert not inspect.signature(EarlyStopping).parameters["restore_best_weights"].default
    assert not inspect.signature(ModelCheckpoint).parameters["save_best_only"].default


def test_float32_and_float64_are_as_they_were():
    before = keras.config.floatx(), torch.get_default_dtype()
    ledger.measure([BY_NAME['floatx of "float64"'], BY_NAME["model.double(), dense layers"]])
    assert (keras.config.floatx(), torch.get_default_dtype()) == before
