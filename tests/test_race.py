"""Chapter 14's race: equal networks, an honest clock, and recipes that do what they say."""

import numpy as np
import pytest
import torch
from race import clock, fast_keras, recipes

from helpers import parity

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (600, 28, 28)).astype("uint8")
Y = RNG.integers(0, 10, 600).astype("uint8")


def twins():
    """The race's network in float64, with equal weights: Keras' layers, the fast ones, PyTorch."""
    plain = recipes.make_keras_model()
    fast = recipes.make_keras_model(fast_keras, fast_keras.Sequential)
    torch_model = recipes.make_torch_model().double().to(memory_format=torch.channels_last)
    fast.set_weights(plain.get_weights())
    parity.copy_weights(plain, torch_model)
    return plain, fast, torch_model


def test_the_networks_of_the_race_are_one_network():
    with parity.float64():
        plain, fast, torch_model = twins()
        x = recipes.standard(X[:8]).astype("float64")
        report = parity.compare(plain, torch_model, x)
        assert report.ok, report
        theirs, ours = plain(x, training=True), fast(x, training=True)
        assert torch.allclose(theirs, ours, rtol=0, atol=1e-10)  # BatchNorm in two ways: 1e-12
    assert fast.count_params() - 352 == sum(p.numel() for p in torch_model.parameters())


@pytest.mark.parametrize("steps", [3, 235])
def test_the_schedule_rises_falls_and_is_the_same_in_keras(steps):
    ours = np.array([recipes.triangle(step, steps) for step in range(steps)])
    top = ours.argmax()
    assert (np.diff(ours[: top + 1]) > 0).all() and (np.diff(ours[top:]) < 0).all()
    assert ours[-1] == 0 and ours.max() <= 1 and ours.min() >= 0
    theirs = recipes.Triangle(0.5, steps)
    keras_values = [float(theirs(step)) for step in range(steps)]
    assert np.allclose(keras_values, 0.5 * ours, rtol=0, atol=1e-6)  # float32: some 1e-7 of 0.5


def test_pictures_are_brought_to_mean_zero():
    x = recipes.standard(X)
    assert x.shape == (600, 28, 28, 1) and x.dtype == np.float32
    assert np.allclose(x[..., 0], (X / 255 - 0.1307) / 0.3081, atol=1e-6)


@pytest.mark.parametrize("name", list(recipes.RUNNERS))
def test_a_runner_yields_after_each_epoch_and_learns(name):
    """And a prediction changes nothing."""
    pictures = np.zeros((600, 28, 28), "uint8")
    for i, label in enumerate(Y):
        pictures[i, 2 * label + 4 : 2 * label + 7, 4:24] = 255  # a bar at a height of its own
    epochs, floor = (6, 0.9) if name.startswith("ours") else (2, 0.5)
    running = recipes.RUNNERS[name](pictures, Y, 0, epochs=epochs)
    count = 0
    for predict in running:
        count += 1
        outputs = predict(pictures[:100])
        assert outputs.shape == (100, 10) and np.isfinite(outputs).all()
        assert np.array_equal(outputs, predict(pictures[:100]))
        right = (outputs.argmax(1) == Y[:100]).mean()
    assert count == epochs and right > floor


@pytest.mark.parametrize("name", ["ours, Keras", "ours, PyTorch"])
def test_a_seed_says_all(name):
    runs = [next(recipes.RUNNERS[name](X[:300], Y[:300], seed, epochs=1))(X) for seed in (0, 0, 1)]
    assert np.array_equal(runs[0], runs[1]) and not np.allclose(runs[0], runs[2])


def test_from_equal_weights_the_same_loop_ends_at_equal_weights():
    """Both recipes of ours: three steps in float64, to the rounding of three steps."""
    with parity.float64():
        _, keras_model, torch_model = twins()
        x = torch.from_numpy(recipes.standard(X)).double()
        y = torch.from_numpy(Y).long()
        sides = (
            (lambda x: keras_model.call(x, training=True), keras_model.trainable_weights, x),
            (torch_model, list(torch_model.parameters()), x.permute(0, 3, 1, 2)),
        )
        for forward, weights, pictures in sides:
            weights = [getattr(weight, "value", weight) for weight in weights]
            assert all(weight.requires_grad for weight in weights)
            list(recipes._train(forward, weights, pictures, y, seed=0, epochs=1))
        # In training: the running variances differ, since PyTorch's are unbiased (chapter 8).
        theirs, ours = keras_model(x[:8], training=True), torch_model(x[:8].permute(0, 3, 1, 2))
        assert theirs.abs().max() > 1 and torch.allclose(theirs, ours, rtol=0, atol=1e-10)


def script(name, epochs, log, step=0.0):
    """A runner that takes `step` seconds an epoch and then knows the given share of the labels."""

    def runner(x, y, seed):
        for share in epochs:
            log.append(name)
            now[0] += step
            known = np.arange(len(Y)) < round(share * len(Y))
            labels = np.where(known, Y, (Y + 1) % 10)
            yield lambda x, labels=labels: np.eye(10)[labels]

    return runner


now = [0.0]


@pytest.fixture
def fake_clock(monkeypatch):
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])


def race(runners, **kwargs):
    return clock.race(runners, (X, Y, X, Y), 0, **kwargs)


def test_the_clock_counts_training_alone_and_stops_at_the_goal(fake_clock):
    log = []
    runners = {
        "slow": script("slow", [0.5, 0.98, 0.995, 1.0], log, 3.0),
        "fast": script("fast", [0.9, 0.99, 1.0], log, 1.0),
        "never": script("never", [0.1, 0.2], log, 2.0),
    }
    runs = race(runners)
    assert runs["slow"].seconds == [3, 6, 9] and runs["slow"].accuracy == [0.5, 0.98, 0.995]
    assert runs["fast"].seconds == [1, 2] and runs["never"].seconds == [2, 4]
    assert [runs[name].reached for name in runners] == [True, True, False]
    # whoever has trained for the shortest time goes next; the goal itself is enough
    assert log == ["slow", "fast", "never", "fast", "never", "slow", "slow"]


def test_a_beaten_rival_gives_up(fake_clock):
    log = []
    runners = {
        "first": script("first", [0.5, 1.0], log, 2.0),
        "second": script("second", [0.5] * 50, log, 3.0),
    }
    runs = race(runners, rivals={"second": "first", "first": "second"})
    assert runs["first"].reached and runs["first"].seconds == [2, 4]
    assert not runs["second"].reached and runs["second"].seconds == [3, 6]  # 6 > 4: beaten
