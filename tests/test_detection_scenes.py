"""The scenes of chapters 20 to 22: tight boxes, the right classes, the same from the same seed."""

import numpy as np
import pytest
from detection import parts, scenes
from test_detection_parts import equal


def stamps(count=40, seed=0):
    """Digits without holes: a full rectangle somewhere in 28 by 28, the brighter the higher."""
    rng = np.random.default_rng(seed)
    digits, labels = np.zeros((count, 28, 28), "uint8"), rng.integers(0, 10, count)
    for digit, label in zip(digits, labels, strict=True):
        height, width = rng.integers(10, 21), rng.integers(3, 21)
        top, left = rng.integers(0, 28 - height + 1), rng.integers(0, 28 - width + 1)
        digit[top : top + height, left : left + width] = 50 + 20 * label
    return digits, labels


class Calm:
    """Random numbers without noise."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def __getattr__(self, name):
        return getattr(self.rng, name)

    def normal(self, mean, deviation, shape):
        assert mean == 0 and deviation > 0
        return np.zeros(shape)


def test_boxes_are_tight_and_say_what_is_in_them(monkeypatch):
    """Each pixel has the ink of the brightest digit whose box covers it, and none without a box."""
    monkeypatch.setattr(scenes, "CLUTTER", 0)
    counts, heights, ends = set(), set(), []
    for seed in range(150):
        picture, boxes, classes = scenes.scene(Calm(seed), *stamps())
        wanted = np.zeros((scenes.SIDE, scenes.SIDE))
        for (left, top, right, bottom), c in zip(boxes.astype(int), classes, strict=True):
            part = wanted[top:bottom, left:right]
            np.maximum(part, 50 + 20 * c, out=part)
        assert picture.dtype == np.uint8 and np.abs(picture - wanted).max() <= 1  # cut, not rounded
        assert boxes.min() >= 0 and boxes.max() <= scenes.SIDE and (boxes == boxes.round()).all()
        overlap = parts.iou(boxes, boxes)
        assert (overlap[np.triu_indices(len(boxes), 1)] < 0.05).all()
        counts.add(len(boxes))
        heights |= set(boxes[:, 3] - boxes[:, 1])
        ends += list(boxes)
    assert counts == set(range(1, scenes.MOST + 1)) and heights == set(range(16, 41))
    assert np.min(ends, 0)[:2].tolist() == [0, 0] and np.max(ends, 0)[2:].tolist() == [96, 96]


def test_a_scrap_is_a_square_of_any_part_of_a_digit(monkeypatch):
    """Of digits whose ink tells the row, what is seen of the one scrap is a square of nine rows."""
    monkeypatch.setattr(scenes, "CLUTTER", 1)
    rows, columns = np.mgrid[:28, :28].astype("uint8")
    seen, places = set(), []
    for seed in range(150):
        along = rows if seed % 2 else columns
        picture, boxes, _ = scenes.scene(Calm(seed), np.stack([along + 100] * 3), np.arange(3))
        outside = np.ones(picture.shape, bool)
        for left, top, right, bottom in boxes.astype(int):
            outside[top:bottom, left:right] = False
        lit = outside & (picture > 0)
        y, x = np.nonzero(lit)
        if len(y):
            seen |= set(picture[lit] - 100)
            places += [(y.min(), x.min(), y.max(), x.max())]
            fits = []
            for top in range(max(0, y.max() - 8), min(y.min(), 87) + 1):
                for left in range(max(0, x.max() - 8), min(x.min(), 87) + 1):
                    square = np.zeros_like(lit)
                    square[top : top + 9, left : left + 9] = True
                    fits.append(np.array_equal(square & outside, lit))
            assert any(fits)
    assert seen == set(range(28))
    assert np.min(places, 0)[:2].max() < 3 and np.max(places, 0)[2:].min() > 92


def test_clutter_and_noise_are_in_every_picture():
    digits, labels = stamps()
    calm, boxes, _ = scenes.scene(Calm(1), digits, labels)
    outside = np.ones(calm.shape, bool)
    for left, top, right, bottom in boxes.astype(int):
        outside[top:bottom, left:right] = False
    assert 20 < (calm[outside] > 0).sum() < scenes.CLUTTER * scenes.SCRAP**2 + 1
    noisy, again, _ = scenes.scene(np.random.default_rng(1), digits, labels)
    assert np.array_equal(boxes, again)
    bright = (calm > 60) & (calm < 190)  # where bytes end at neither side: five deviations
    noise = noisy[bright].astype(float) - calm[bright]
    assert abs(noise.mean() + 0.5) < 5 * 12 / bright.sum() ** 0.5 and 11 < noise.std() < 13


def test_a_digit_is_cut_out_and_stretched():
    digit = np.zeros((28, 28), "uint8")
    digit[3:9, 5] = 33
    digit[8, 5:9] = 200
    digit[20, 20] = 32  # no ink yet
    found = scenes.trim(digit)
    assert found.shape == (6, 4) and np.array_equal(found, digit[3:9, 5:9])
    assert np.array_equal(scenes.stretch(found, 6, 4), found)
    assert np.array_equal(scenes.stretch(np.full((6, 4), 7.0), 16, 11), np.full((16, 11), 7.0))
    slope = np.arange(4.0)[None] + np.zeros((2, 1))
    assert scenes.stretch(slope, 2, 8)[0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    assert scenes.stretch(slope.T, 2, 3)[:, 1].tolist() == [0.5, 2.5]


def test_a_seed_makes_the_same_scenes_and_rows_that_are_left_over_say_so():
    digits, labels = stamps()
    pictures, boxes, classes = scenes.make(3, 12, digits, labels)
    assert pictures.shape == (12, 96, 96) and boxes.shape == (12, 5, 4) and classes.shape == (12, 5)
    for found, again in zip(
        (pictures, boxes, classes), scenes.make(3, 12, digits, labels), strict=True
    ):
        equal(found, again)
    rng = np.random.default_rng(3)
    for i in range(12):
        picture, box, kinds = scenes.scene(rng, digits, labels)
        n = len(kinds)
        assert np.array_equal(pictures[i], picture) and np.array_equal(boxes[i, :n], box)
        assert np.array_equal(classes[i, :n], kinds)
        assert (classes[i, n:] == -1).all() and (boxes[i, n:] == [0, 0, 1, 1]).all()
    assert (scenes.make(4, 12, digits, labels)[0] != pictures).any()


@pytest.mark.parametrize("wrong", [lambda x: x / 255, lambda x: x[..., None], lambda x: x[:, 1:]])
def test_scenes_are_made_of_bytes(wrong):
    digits, labels = stamps()
    with pytest.raises(ValueError, match="digits must be bytes from 0 to 255"):
        scenes.make(0, 1, wrong(digits), labels)


def test_a_batch_has_what_a_step_needs():
    made = scenes.make(3, 12, *stamps())
    found = scenes.batch(made, [7, 2], np.random.default_rng(0), "float64")
    assert np.array_equal(found["images"][..., 0] * 255, made[0][[7, 2]])
    equal(found["boxes"], made[1][[7, 2]])
    equal(found["classes"], made[2][[7, 2]])
    assert found["luck"].shape == (2, len(parts.ANCHORS) + parts.PROPOSALS + scenes.MOST)
    assert 0 <= found["luck"].min() < 0.01 and 0.99 < found["luck"].max() <= 1
    other = scenes.batch(made, [7, 2], np.random.default_rng(1))
    assert {str(x.dtype) for x in other.values()} == {"float32", "int64"}
    assert (other["luck"] != found["luck"]).mean() > 0.99
