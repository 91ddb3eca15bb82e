"""helpers.device: which device, and what the stamp says."""

import contextlib

import keras
import pytest
import torch

from helpers import device


@pytest.fixture
def machine(monkeypatch):
    """A function that pretends what the machine offers and what the reader asked for."""

    def pretend(cuda=False, mps=False, wanted=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.delenv("BOOK_DEVICE", raising=False)
        if wanted is not None:
            monkeypatch.setenv("BOOK_DEVICE", wanted)

    return pretend


@pytest.mark.parametrize(
    ("offers", "wanted", "expected"),
    [
        ({}, None, "cpu"),
        ({"cuda": True}, None, "cuda"),
        ({"mps": True}, None, "mps"),
        ({"cuda": True}, "cpu", "cpu"),
        ({"cuda": True}, " CUDA ", "cuda"),
        ({"cuda": True}, "", "cuda"),
    ],
)
def test_the_fastest_or_the_one_asked_for(machine, offers, wanted, expected):
    machine(**offers, wanted=wanted)
    assert device.name() == expected


@pytest.mark.parametrize("wanted", ["cuda", "tpu", "cuda:1"])
def test_a_device_that_is_not_here_is_refused_in_one_sentence(machine, wanted):
    machine(mps=True, wanted=wanted)
    message = f"BOOK_DEVICE is '{wanted}', but this machine offers mps and cpu: set it to one"
    with pytest.raises(ValueError, match=message):
        device.pick()


def test_pick_holds_for_both_frameworks(machine):
    machine(wanted="cpu")
    keras.device("meta").__enter__()
    try:
        picked = device.pick()
        assert picked == torch.device("cpu") == torch.ones(1).device
        assert keras.ops.ones(1).device == picked
        assert keras.layers.Dense(1)(keras.ops.ones((1, 2))).device == picked
    finally:
        keras.device("cpu").__enter__()


def test_pick_sets_pytorchs_default_for_anything_but_the_cpu(machine, monkeypatch):
    machine(cuda=True)
    chosen = []
    monkeypatch.setattr(torch, "set_default_device", chosen.append)
    monkeypatch.setattr(keras, "device", lambda kind: contextlib.nullcontext())
    assert device.pick() == torch.device("cuda")
    machine(wanted="cpu")
    device.pick()
    assert chosen == ["cuda", None]


def test_another_backend_is_refused_in_one_sentence(machine, monkeypatch):
    machine()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="KERAS_BACKEND to torch before Keras"):
        device.pick()


def test_the_stamp_names_every_version_and_the_device(machine):
    machine(wanted="cpu")
    stamp, versions = device.stamp(), device.versions()
    assert set(versions) == {"python", "keras", "torch", "numpy"}
    assert versions["keras"] == keras.__version__ and versions["torch"] == torch.__version__
    for version in versions.values():
        assert version.split("+")[0] in stamp
    assert "+" not in stamp and stamp.endswith("device: cpu")
