"""Chapter 25's search space: what a setting costs, and that both frameworks train the same one."""

import choices
import numpy as np
import pytest
import torch
from choices import keras_side, torch_side
from torch.utils.flop_counter import FlopCounterMode

from helpers import parity

PLAIN = {
    "framework": "torch",
    "convolutions": 1,
    "width": 4,
    "kernel": 3,
    "activation": "relu",
    "optimizer": "sgd",
    "lr": 0.03,
    "decay": 0.5,
    "dropout": 0.0,
    "batch_size": 10,
}


def pictures(n=24, seed=0):
    """Random pictures, half to learn from: no two pixels alike, so that no pooling has a tie."""
    rng = np.random.default_rng(seed)
    x, y = rng.random((n, 14, 14, 1)), rng.integers(0, 10, n)
    return {"x": x[: n // 2], "y": y[: n // 2], "x_val": x[n // 2 :], "y_val": y[n // 2 :]}


def logits_after(setting, seed, data, epochs=2):
    """The logits on the validation pictures after training in float64."""
    seen = []
    with parity.float64():
        found = choices.train(
            setting, seed, data, epochs, lambda e, r, answer: seen.append(answer(data["x_val"]))
        )
    return found, seen[-1]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"convolutions": 0, "activation": "tanh"},
        {"convolutions": 2, "kernel": 5, "optimizer": "adamw", "lr": 0.003},
        {"dropout": 0.4},
        {"convolutions": 2, "width": 8, "activation": "tanh", "dropout": 0.4, "optimizer": "adamw"},
    ],
    ids=str,
)
def test_both_frameworks_train_the_same_network(change):
    data, setting = pictures(), PLAIN | change
    (ours, torch_logits), (theirs, keras_logits) = (
        logits_after(setting | {"framework": name}, 3, data) for name in ("torch", "keras")
    )
    assert ours == theirs
    np.testing.assert_allclose(keras_logits, torch_logits, rtol=0, atol=1e-9)
    other = logits_after(setting | {"framework": "torch"}, 4, data)[1]
    assert np.abs(other - torch_logits).max() > 1e-3  # another luck is another network


@pytest.mark.parametrize(
    "name, value",
    [
        ("lr", 0.1),
        ("activation", "tanh"),
        ("optimizer", "adamw"),
        ("dropout", 0.4),
        ("batch_size", 5),
        ("kernel", 5),
        ("width", 8),
        ("convolutions", 2),
    ],
)
@pytest.mark.parametrize("framework", ["keras", "torch"])
def test_each_choice_changes_what_is_trained(framework, name, value):
    data, setting = pictures(), PLAIN | {"framework": framework}
    plain, changed = (logits_after(s, 0, data, 1)[1] for s in (setting, setting | {name: value}))
    assert np.abs(plain - changed).max() > 1e-4


@pytest.mark.parametrize("framework", ["keras", "torch"])
def test_decay_is_adamws_alone(framework):
    data = pictures()
    for optimizer, same in (("sgd", True), ("adamw", False)):
        setting = PLAIN | {"framework": framework, "optimizer": optimizer, "lr": 0.01}
        a, b = (logits_after(setting | {"decay": d}, 0, data, 1)[1] for d in (0.0, 1.0))
        assert (np.abs(a - b).max() == 0) == same


@pytest.mark.parametrize("convolutions, kernel", [(0, 3), (1, 5), (2, 3)])
@pytest.mark.parametrize("side", [keras_side, torch_side], ids=["keras", "torch"])
def test_cost_is_what_pytorch_counts(side, convolutions, kernel):
    setting = PLAIN | {"convolutions": convolutions, "kernel": kernel}
    weights = [w.astype("float32") for w in choices.start(setting, 0)]
    step, answer = side.learner(setting, weights)
    x, y = np.random.default_rng(0).random((7, 14, 14, 1)).astype("float32"), np.arange(7)
    step(x, y)  # Keras' first step computes the network once more, to learn its shapes
    with FlopCounterMode(display=False) as learned:
        step(x, y)
    with FlopCounterMode(display=False) as judged:
        answer(x)
    assert learned.get_total_flops() == 2 * choices.cost(setting, 7)
    assert judged.get_total_flops() == 2 * choices.cost(setting, 0, 7)


def test_first_weights_fit_both_and_are_glorots():
    setting = PLAIN | {"convolutions": 2, "width": 16}
    weights = choices.start(setting, 1)
    assert [w.shape for w in weights] == [
        w.shape for w in keras_side.make_model(setting).get_weights()
    ]
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        field = np.prod(kernel.shape[:-2])
        limit = np.sqrt(6 / (field * (kernel.shape[-2] + kernel.shape[-1])))
        assert 0.8 * limit < np.abs(kernel).max() <= limit and not bias.any()


def test_draws_stay_in_the_space_and_reach_its_ends():
    rng = np.random.default_rng(0)
    drawn = [choices.draw(rng) for _ in range(400)]
    for name, values in choices.SPACE.items():
        found = [setting[name] for setting in drawn]
        if isinstance(values, list):
            assert set(found) == set(values)
        else:
            low, high = values
            assert low <= min(found) and max(found) <= high
    rates = np.log([setting["lr"] for setting in drawn])
    middle = np.mean(np.log(choices.SPACE["lr"]))
    assert abs(rates.mean() - middle) < 4 * rates.std() / 20  # even on the logarithm


def test_the_grid_is_a_part_of_the_space():
    assert len(choices.SETTINGS) == 180 == len({str(s) for s in choices.SETTINGS})
    for setting in choices.SETTINGS:
        assert set(setting) | {"framework"} == set(choices.SPACE)
        for name, value in setting.items():
            values = choices.SPACE[name]
            inside = value in values if isinstance(values, list) else value <= values[1]
            assert inside, name


def test_training_reports_and_can_be_ended():
    class Enough(Exception):
        pass

    seen = []

    def report(epoch, right, answer):
        seen.append((epoch, right))
        if epoch == 2:
            raise Enough

    data = {k: v.astype("float32") if k[0] == "x" else v for k, v in pictures().items()}
    with pytest.raises(Enough):
        choices.train(PLAIN, 0, data, 5, report)
    torch.manual_seed(9)  # another state of PyTorch's generator changes nothing
    assert [right for _, right in seen] == choices.train(PLAIN, 0, data, 2)
