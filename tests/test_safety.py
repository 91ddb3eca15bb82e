"""Chapter 18's package: what opens a file runs what is in it, and the refusals are refusals."""

import json
import zipfile

import numpy as np
import pytest
import safety
import torch
from safety import child, parcels


@pytest.fixture
def parcel(tmp_path):
    """A file of weights with a surprise beside them."""
    weights = {"weight": torch.arange(6.0).reshape(2, 3), "extra": parcels.Parcel()}
    torch.save(weights, tmp_path / "parcel.pt")
    torch.save({"weight": weights["weight"]}, tmp_path / "plain.pt")
    return tmp_path


def test_a_pickle_runs_where_it_is_opened_and_weights_only_refuses_it(parcel):
    found = safety.open_anew(
        parcel,
        'torch.load("plain.pt")',
        'torch.load("parcel.pt")',
        'torch.load("parcel.pt", weights_only=False)',
        'torch.load("plain.pt", weights_only=False)',
        'torch.load("missing.pt")',
    )
    happened = [(what, bool(note)) for _, what, note in found]
    assert happened == [
        ("opened", False),
        ("UnpicklingError", False),
        ("opened", True),
        ("opened", False),
        ("FileNotFoundError", False),
    ]
    assert found[2][2] == parcels.SENTENCE
    assert sorted(path.name for path in parcel.iterdir()) == ["parcel.pt", "plain.pt"]


def test_the_surprise_does_not_run_while_it_is_written(parcel):
    assert not (parcel / "note.txt").exists()


def test_a_lambda_runs_only_where_safe_mode_is_off(tmp_path):
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: x), layers.Dense(2)])
    parcels.put_surprise_into(model.layers[0])
    model.save(tmp_path / "lambda.keras")
    parcels.name_function(tmp_path / "lambda.keras", tmp_path / "named.keras", *parcels.NAMED)
    assert not (tmp_path / "note.txt").exists()
    with zipfile.ZipFile(tmp_path / "named.keras") as file:
        config = json.loads(file.read("config.json"))
    assert config["config"]["layers"][1]["config"]["function"]["module"] == "safety.parcels"
    found = safety.open_anew(
        tmp_path,
        'keras.models.load_model("lambda.keras")',
        'keras.models.load_model("lambda.keras", safe_mode=False)',
        'keras.models.load_model("named.keras")',
        'keras.models.load_model("named.keras", safe_mode=False)',
        'keras.models.load_model("named.keras", vars(parcels))',  # handed over: it does run
    )
    assert [(what, bool(note)) for _, what, note in found] == [
        ("ValueError", False),
        ("opened", True),
        ("TypeError", False),
        ("TypeError", False),
        ("opened", True),
    ]
    assert {note for _, _, note in found} == {"", parcels.SENTENCE}


def test_what_can_not_be_asked_is_said_in_a_sentence(tmp_path):
    with pytest.raises(safety.SafetyError, match="no folder 'nowhere'"):
        safety.open_anew(tmp_path / "nowhere", "1")
    with pytest.raises(safety.SafetyError, match="at least one expression"):
        safety.open_anew(tmp_path)
    with pytest.raises(safety.SafetyError, match="ended with code 3"):
        safety.open_anew(tmp_path, "__import__('os')._exit(3)")
    with pytest.raises(safety.SafetyError, match="not done after 1 s"):
        safety.open_anew(tmp_path, "__import__('time').sleep(60)", timeout=1)


def test_the_child_notes_what_became_of_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = child.tell(["1 + 1", "1 / 0", parcels.SURPRISE, "2"])
    assert [what for _, what, _ in found] == ["opened", "ZeroDivisionError", "opened", "opened"]
    assert [note for _, _, note in found] == ["", "", parcels.SENTENCE, ""]


def test_letters_are_pictures_like_the_digits():
    pictures, names = safety.letters(40, seed=3)
    again, _ = safety.letters(40, seed=3)
    assert pictures.shape == (40, 28, 28, 1) and pictures.dtype == np.float32
    assert pictures.min() == 0 and 0.9 < pictures.max() <= 1 and np.array_equal(pictures, again)
    assert len(names) == 40 and not set(names) & set("ILOQSZ")
    assert (pictures.reshape(40, -1).mean(1) > 0.03).all()
    assert not pictures[:, [0, -1]].any() and not pictures[:, :, [0, -1]].any()  # nothing cut off
    with pytest.raises(ValueError, match="from 1 on"):
        safety.letters(0)
