"""Chapter 15's crowd: each of its networks is the one that a plain PyTorch loop trains alone."""

import crowd
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers.training import epoch_order

WIDTH, N, SEEDS = 7, 20, [3, 8, 5]
# Sums of a few hundred numbers of size 1, ten steps of Adam: some thousand roundings of 1e-16.
CLOSE = {"rtol": 1e-10, "atol": 1e-12}
# A bias before a normalisation has the gradient 0: in either program, rounding of at most 1e-15.
# Adam divides it by its size plus 1e-8, so each of six steps of 0.01 moves it by up to 1e-9.
NORMALISED = {"rtol": 0, "atol": 6e-9}


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.random((len(SEEDS), N, crowd.SIDE**2)))
    return x, torch.tensor(rng.integers(0, 10, (len(SEEDS), N)))


def network(seed, norm=False):
    """The network of a seed, by PyTorch's own layers."""
    W, b, V, c = (torch.tensor(part) for part in crowd.start(seed, WIDTH))
    model = nn.Sequential(nn.Linear(crowd.SIDE**2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))
    model = model.double()
    with torch.no_grad():
        for layer, kernel, bias in ((model[0], W, b), (model[2], V, c)):
            layer.weight.copy_(kernel.T)
            layer.bias.copy_(bias)
    if norm:
        model.insert(1, nn.BatchNorm1d(WIDTH).double())
    return model


def alone(model, x, y, seed, epochs, smoothing=0.0, decay=0.0):
    """The plain loop: batches of 8 in the seed's order. Returns each epoch's mean loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=decay)
    history = []
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.tensor(epoch_order(len(x), seed, epoch)).split(8):
            logits = model.train()(x[rows])
            loss = F.cross_entropy(logits, y[rows], label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += F.cross_entropy(logits, y[rows], reduction="sum").item()
        history.append(total / len(x))
    return history


@pytest.mark.parametrize(
    "how", [{}, {"norm": True}, {"decay": 0.3}, {"smoothing": [0.0, 0.1, 0.2]}], ids=str
)
def test_each_is_the_network_trained_alone(pictures, how):
    x, y = pictures
    how = {k: torch.tensor(v) if isinstance(v, list) else v for k, v in how.items()}
    many = crowd.train(x, y, SEEDS, epochs=2, width=WIDTH, batch_size=8, lr=0.01, **how)
    soft = torch.as_tensor(how.get("smoothing", 0.0)).expand(len(SEEDS)).tolist()
    close = NORMALISED if how.get("norm") else CLOSE
    for i, seed in enumerate(SEEDS):
        model = network(seed, how.get("norm", False))
        history = alone(model, x[i], y[i], seed, 2, soft[i], how.get("decay", 0.0))
        np.testing.assert_allclose(many.history["loss"][:, i], history, **close)
        with torch.no_grad():
            np.testing.assert_allclose(many.logits(x)[i], model.eval()(x[i]), **close)


def test_dropout_of_one_leaves_the_others_as_they_were(pictures):
    x, y = pictures
    how = {"epochs": 2, "width": WIDTH, "batch_size": 8}
    plain = crowd.train(x, y, SEEDS, **how).logits(x)
    dropped = crowd.train(x, y, SEEDS, dropout=torch.tensor([0.0, 0.5, 0.0]), **how).logits(x)
    np.testing.assert_allclose(plain[[0, 2]], dropped[[0, 2]], **CLOSE)
    assert (plain[1] - dropped[1]).abs().max() > 1e-3


def test_what_is_dropped_is_the_part_asked_for_and_the_mean_stays():
    rng = np.random.default_rng(1)
    x = torch.tensor(rng.random((1, 400, crowd.SIDE**2)))
    y = torch.tensor(rng.integers(0, 10, (1, 400)))
    seen = []
    before = crowd._forward

    def watch(parameters, statistics, x, mask, training):
        if mask is not None:
            seen.append(mask)
        return before(parameters, statistics, x, mask, training)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crowd, "_forward", watch)
        crowd.train(x, y, [0], epochs=1, width=50, batch_size=400, dropout=0.25)
    (mask,) = seen
    assert sorted(set(mask.flatten().tolist())) == [0.0, 1 / 0.75]
    # 20,000 draws: the part has a standard deviation of 0.003, five of which are never seen.
    assert abs((mask == 0).double().mean().item() - 0.25) < 0.0155


def test_the_best_epoch_of_each_is_kept(pictures):
    x, y = pictures
    rng = np.random.default_rng(2)
    val = torch.tensor(rng.random((60, crowd.SIDE**2))), torch.tensor(rng.integers(0, 10, 60))
    how = {"width": WIDTH, "batch_size": 8, "lr": 0.05, "norm": True, "val": val}
    many = crowd.train(x, y, SEEDS, epochs=6, **how)
    lowest = many.history["val_loss"].argmin(0)
    assert (lowest < 5).any(), "labels at random: the last epoch can't be the best of all"
    found = crowd.scores(many.logits(val[0], stopped=True), val[1])
    np.testing.assert_allclose(found[0], many.history["val_loss"].min(0), **CLOSE)
    for i, epoch in enumerate(lowest):
        short = crowd.train(x, y, SEEDS, epochs=int(epoch) + 1, **how)
        np.testing.assert_allclose(
            short.logits(val[0])[i], many.logits(val[0], stopped=True)[i], **CLOSE
        )


def test_pictures_shrink_to_means_of_four_pixels():
    picture = np.zeros((1, 28, 28), "uint8")
    picture[0, 2:4, 4:6] = [[255, 0], [51, 0]]
    row = crowd.shrink(picture)
    assert row.shape == (1, 196) and row.dtype == np.float32
    assert row[0, 1 * 14 + 2] == pytest.approx(0.3) and np.count_nonzero(row) == 1


def test_a_shift_of_whole_pixels_moves_the_picture_and_no_turn_leaves_it():
    x = torch.zeros(1, 14, 14, dtype=torch.float64)
    x[0, 5, 6] = 1.0
    still, shifts = torch.zeros(1), torch.tensor([[2.0, -1.0]])
    moved = crowd.warp(x.reshape(1, -1), still, shifts).reshape(14, 14)
    expected = torch.zeros(14, 14, dtype=torch.float64)
    expected[4, 8] = 1.0  # two to the right, one up
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)  # angles come in float32
    back = crowd.warp(x.reshape(1, -1), still, torch.zeros(1, 2)).reshape(14, 14)
    torch.testing.assert_close(back, x[0], atol=1e-6, rtol=0)


def test_augmentation_changes_what_each_network_sees(pictures):
    x, y = pictures
    how = {"epochs": 1, "width": WIDTH, "batch_size": 8}
    plain, moved = (crowd.train(x, y, SEEDS, augment=a, **how).logits(x) for a in (0.0, 1.0))
    assert ((plain - moved).abs().amax((1, 2)) > 1e-3).all()
