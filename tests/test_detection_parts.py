"""The parts of Faster R-CNN: NumPy, Keras and PyTorch against cases worked by hand, and each other.

Coordinates are quarters of a pixel, so that sums and products of them are exact in float64: where
nothing but these and one division is computed, three libraries must give the same number.
"""

import math

import numpy as np
import pytest
import torch
from detection import keras_parts, parts, torch_parts
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers import parity

LIBRARIES = ["numpy", "keras", "torch"]
MODULES = {"keras": keras_parts, "torch": torch_parts}
FRAMEWORKS = list(MODULES)
FUZZ = settings(max_examples=60, deadline=None, derandomize=True, database=None)
EPS = np.finfo(float).eps


@pytest.fixture(autouse=True, scope="module")
def exact():
    with parity.float64():
        yield


def call(library, name, *arrays, **how):
    """A part on a batch, arrays in and out; NumPy's takes one picture, so it is called for each."""
    if library == "numpy":
        found = [getattr(parts, name)(*each, **how) for each in zip(*arrays, strict=True)]
        several = isinstance(found[0], tuple)
        return tuple(map(np.stack, zip(*found, strict=True))) if several else np.stack(found)
    found = getattr(MODULES[library], name)(*map(torch.as_tensor, arrays), **how)
    several = isinstance(found, tuple)
    return tuple(x.numpy() for x in found) if several else found.numpy()


def alone(library, name, *arrays, **how):
    """The same for one picture."""
    found = call(library, name, *(np.asarray(a)[None] for a in arrays), **how)
    return tuple(x[0] for x in found) if isinstance(found, tuple) else found[0]


def equal(found, wanted):
    assert found.dtype.kind == wanted.dtype.kind and np.array_equal(found, wanted)


QUARTERS = st.integers(-40, 440)
SIZES = st.integers(1, 200)
BOXES = st.tuples(QUARTERS, QUARTERS, SIZES, SIZES).map(
    lambda b: [b[0] / 4, b[1] / 4, (b[0] + b[2]) / 4, (b[1] + b[3]) / 4]
)


def some(least=1, most=7):
    return st.lists(BOXES, min_size=least, max_size=most).map(lambda b: np.array(b).reshape(-1, 4))


# ---- intersection over union ----


@pytest.mark.parametrize("library", LIBRARIES)
def test_iou_of_boxes_worked_by_hand(library):
    a = np.array([[0.0, 0, 2, 2], [0, 0, 4, 1]])
    b = np.array([[1.0, 1, 3, 3], [0, 0, 2, 2], [2, 0, 4, 2], [0, 0, 4, 4], [5, 5, 6, 6]])
    wanted = [[1 / 7, 1, 0, 1 / 4, 0], [0, 1 / 3, 1 / 3, 1 / 4, 0]]
    assert np.array_equal(alone(library, "iou", a, b), wanted)
    assert alone(library, "iou", a, b[:0]).shape == (2, 0)
    batch = call(library, "iou", np.stack([a, a + 7]), np.stack([b, b + 7]))
    assert np.array_equal(batch, [wanted, wanted])


@FUZZ
@given(some(), some(), st.integers(-99, 99), st.integers(-3, 3))
def test_iou_keeps_its_laws(a, b, shift, power):
    for library in LIBRARIES:
        found = alone(library, "iou", a, b)
        equal(found, parts.iou(a, b))
        assert found.min() >= 0 and found.max() <= 1
        equal(alone(library, "iou", b, a).T, found)
        assert (np.diag(alone(library, "iou", a, a)) == 1).all()
        equal(found == 1, (a[:, None] == b).all(-1))
        equal(alone(library, "iou", (a + shift) * 2.0**power, (b + shift) * 2.0**power), found)


@FUZZ
@given(st.lists(st.tuples(*[st.integers(0, 11)] * 2, *[st.integers(1, 9)] * 2), min_size=2))
def test_iou_counts_pixels(boxes):
    """Of boxes between whole pixels, it is the pixels of both, over those of either."""
    boxes = np.array(boxes)
    boxes[:, 2:] += boxes[:, :2]
    left, top, right, bottom = boxes.T[..., None, None]
    y, x = np.mgrid[:20, :20]
    ink = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    both, either = ink[:, None] & ink, ink[:, None] | ink
    wanted = both.sum((-2, -1)) / either.sum((-2, -1))
    for library in LIBRARIES:
        equal(alone(library, "iou", boxes.astype(float), boxes.astype(float)), wanted)


# ---- anchors, codes, the border ----


def test_anchors_stand_around_the_middle_of_each_feature_row_by_row():
    found = parts.grid(8, 4, [(2, 6), (4, 4)])
    wanted = [[1, -1, 3, 5], [0, 0, 4, 4], [5, -1, 7, 5], [4, 0, 8, 4]]
    assert np.array_equal(found[:4], wanted)
    assert np.array_equal(found[4:] - found[:4], [[0, 4, 0, 4]] * 4)
    assert len(parts.grid(11, 4, [(1, 1)])) == 4  # whole cells only
    cells = parts.SIDE // parts.STRIDE
    assert parts.ANCHORS.shape == (cells * cells * len(parts.SHAPES), 4)
    assert np.array_equal(parts.ANCHORS, parts.grid(parts.SIDE, parts.STRIDE, parts.SHAPES))
    first = parts.ANCHORS[: len(parts.SHAPES)]
    assert np.allclose(first[:, 2:] - first[:, :2], parts.SHAPES, rtol=8 * EPS)
    assert np.allclose(first[:, 2:] + first[:, :2], parts.STRIDE, rtol=16 * EPS)  # sides to 20


@pytest.mark.parametrize("library", LIBRARIES)
def test_codes_worked_by_hand(library):
    anchors = np.array([[0.0, 0, 10, 20], [0, 0, 10, 20]])
    boxes = np.array([[1.0, 2, 21, 22], [0, 0, 10, 20]])
    codes = np.array([[6, 1, math.log(2) / 0.2, 0], [0, 0, 0, 0]])
    assert np.allclose(alone(library, "encode", boxes, anchors), codes, rtol=8 * EPS, atol=0)
    assert np.allclose(alone(library, "decode", codes, anchors), boxes, rtol=8 * EPS, atol=0)


@FUZZ
@given(some(), st.integers(0, 2**32))
def test_decoding_undoes_encoding_in_each_library(boxes, seed):
    """Sizes below 60, shifts below 200, a logarithm below 3: some ten roundings of each."""
    anchors = parts.ANCHORS[
        np.random.default_rng(seed).integers(len(parts.ANCHORS), size=len(boxes))
    ]
    reference = parts.encode(boxes, anchors)
    for library in LIBRARIES:
        codes = alone(library, "encode", boxes, anchors)
        assert np.abs(codes - reference).max() < 10 * EPS * 200 / 0.1
        assert np.abs(alone(library, "decode", codes, anchors) - boxes).max() < 30 * EPS * 200
        batch = call(library, "encode", np.stack([boxes, boxes + 1]), np.stack([anchors, anchors]))
        equal(batch[0], codes)


@pytest.mark.parametrize("library", LIBRARIES)
def test_no_code_makes_a_box_without_bounds(library):
    anchors = np.array([[40.0, 40, 50, 60]])
    found = alone(library, "decode", np.array([[0, 0, 1e4, 1e4]]), anchors)
    assert np.allclose(found, [[45 - 480, 50 - 960, 45 + 480, 50 + 960]], rtol=16 * EPS)
    found = alone(library, "decode", np.array([[0, 0, -1e4, -1e4]]), anchors)
    assert np.array_equal(found, [[45, 50, 45, 50]])


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_lies_outside_keeps_a_pixel_at_the_border(library):
    boxes = [[-9, -9, -5, -5], [-5, 4, 3, 30], [18, 2, 24, 7], [30, 30, 40, 40], [5, 5, 5, 5]]
    wanted = [[0, 0, 1, 1], [0, 4, 3, 20], [18, 2, 20, 7], [19, 19, 20, 20], [5, 5, 6, 6]]
    found = alone(library, "clip", np.array(boxes, float), side=20)
    assert np.array_equal(found, wanted)
    assert np.array_equal(alone(library, "clip", np.array([[0.0, 0, 999, 999]])), [[0, 0, 96, 96]])


@FUZZ
@given(some())
def test_clipping_twice_is_clipping_once_and_alike_everywhere(boxes):
    once = parts.clip(boxes)
    for library in LIBRARIES:
        equal(alone(library, "clip", boxes), once)
        equal(alone(library, "clip", once), once)
    assert once.min() >= 0 and once.max() <= parts.SIDE
    assert (once[:, 2:] - once[:, :2] >= 1).all()
    inside = (boxes.min(1) >= 0) & (boxes.max(1) <= parts.SIDE)
    inside &= (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
    equal(once[inside], boxes[inside])


# ---- whose a box is, and which to learn from ----


def matched(overlap, low, high, rescue):
    """The definition, row by row."""
    kinds = []
    for row in overlap:
        kind = 1 if max(row) >= high else 0 if max(row) < low else -1
        best = (v > 0 and v == max(overlap[:, j]) for j, v in enumerate(row))
        kinds.append(1 if rescue and any(best) else kind)
    return kinds, [list(row).index(max(row)) for row in overlap]


@FUZZ
@given(
    st.integers(1, 3).flatmap(
        lambda m: st.lists(st.lists(st.integers(-1, 10), min_size=m, max_size=m), min_size=1)
    ),
    st.booleans(),
)
@example([[3, 2], [0, 1], [-1, -1]], True)  # a row below `low` is rescued, for the second object
@example([[4, 1], [1, 2], [1, 1]], True)  # each row is rescued for one of them, the last for none
@example([[4, 1], [1, 2], [1, 1]], False)  # and without a rescue for none
@example([[0, 0], [0, 0]], True)  # what nothing overlaps rescues nothing
@example([[-1, -1], [-1, -1]], True)  # no object at all
@example([[3, 3], [6, 6], [2, 5]], False)  # a tie is the first one's; the limits themselves
def test_each_row_is_told_what_it_should_say(tenths, rescue):
    overlap = np.array(tenths) / 10
    for low, high in ((0.3, 0.6), (0.5, 0.5)):
        wanted = matched(overlap, low, high, rescue)
        for library in LIBRARIES:
            both, how = np.stack([overlap, overlap[::-1]]), {"rescue": True} if rescue else {}
            kind, which = call(library, "match", both, low=low, high=high, **how)
            assert np.array_equal(kind[0], wanted[0]) and np.array_equal(which[0], wanted[1])
            assert np.array_equal(kind[1], wanted[0][::-1])
            assert np.array_equal(which[1], wanted[1][::-1])


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_luckiest_are_chosen_and_never_too_many_objects(library):
    kind = np.array([1, 0, 1, -1, 1, 0, 0, -1])
    luck = np.array([0.5, 0.9, 0.7, 0.99, 0.6, 0.2, 0.3, 0.95])
    cases = {  # count, objects: the rows in use
        (4, 2): [2, 4, 1, 6],
        (2, 2): [2, 4],
        (6, 5): [2, 4, 0, 1, 6, 5],
        (8, 1): [2, 1, 6, 5],
    }
    for (count, objects), wanted in cases.items():
        rows, use = alone(library, "choose", kind, luck, count=count, objects=objects)
        assert rows.shape == use.shape == (count,) and rows[use].tolist() == wanted
    rows, use = alone(library, "choose", np.full(8, -1), luck, count=3, objects=2)
    assert not use.any() and rows.min() >= 0 and rows.max() < 8


@FUZZ
@given(st.lists(st.integers(-1, 1), min_size=1, max_size=12), st.data())
def test_choosing_is_alike_everywhere_and_lawful(kinds, data):
    n = len(kinds)
    luck = np.array(data.draw(st.permutations(range(n)))) / n
    count = data.draw(st.integers(1, n))
    objects = data.draw(st.integers(1, count))
    kind = np.array(kinds)
    first, in_use = parts.choose(kind, luck, count, objects)
    chosen = set(first[in_use])
    positive, negative = set(np.flatnonzero(kind == 1)), set(np.flatnonzero(kind == 0))
    assert len(chosen) == in_use.sum() and chosen <= positive | negative
    assert len(chosen & positive) == min(objects, len(positive))
    assert len(chosen & negative) == min(count - len(chosen & positive), len(negative))
    for group in (positive, negative):
        left = [luck[i] for i in group - chosen]
        assert not left or all(luck[i] > max(left) for i in group & chosen)
    for library in FRAMEWORKS:
        rows, use = call(
            library,
            "choose",
            np.stack([kind, kind[::-1]]),
            np.stack([luck, luck[::-1]]),
            count=count,
            objects=objects,
        )
        assert rows[0][use[0]].tolist() == first[in_use].tolist()
        assert rows[1][use[1]].tolist() == (n - 1 - first[in_use]).tolist()


@pytest.mark.parametrize("library", FRAMEWORKS)
def test_small_misses_count_squared_and_large_ones_plainly(library):
    """Exact, in float64; its slope is the distance, cut off at 1 on both sides."""
    miss = torch.tensor([-3.0, -1, -0.5, 0, 0.25, 0.9375, 1, 1.0625, 1.75], requires_grad=True)
    loss = MODULES[library].smooth_l1(miss)
    assert loss.tolist() == [2.5, 0.5, 0.125, 0, 1 / 32, 0.9375**2 / 2, 0.5, 0.5625, 1.25]
    loss.sum().backward()
    assert miss.grad.tolist() == [-1, -1, -0.5, 0, 0.25, 0.9375, 1, 1, 1]


# ---- suppression ----


@pytest.mark.parametrize("library", LIBRARIES)
def test_suppression_worked_by_hand(library):
    """Four in a row, each overlapping the next: who goes can't make others go."""
    boxes = np.array([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10], [12, 0, 22, 10]])
    assert parts.iou(boxes[:1], boxes).round(2).tolist() == [[1, 0.43, 0.11, 0]]
    cases = [
        ([4.0, 3, 2, 1], [1, 0, 1, 0]),
        ([3.0, 4, 2, 1], [0, 1, 0, 1]),
        ([1.0, 2, 4, 3], [1, 0, 1, 0]),
        ([1.0, 1, 1, 1], [1, 0, 1, 0]),  # of equals, the first
        ([1.0, 2, 2, 1], [0, 1, 0, 1]),
        ([-np.inf, 0, 1, -1], [1, 0, 1, 0]),
    ]
    for scores, wanted in cases:
        assert alone(library, "nms", boxes, np.array(scores), threshold=0.4).tolist() == wanted
    twice = np.array([[0.0, 0, 2, 1], [0, 0, 1, 1]])  # half of it, no more: both stay
    assert alone(library, "nms", twice, np.array([2.0, 1]), threshold=0.5).tolist() == [1, 1]
    assert alone(library, "nms", twice, np.array([2.0, 1]), threshold=0.49).tolist() == [1, 0]
    assert alone(library, "nms", boxes[:0], np.zeros(0), threshold=0.5).shape == (0,)


@pytest.mark.parametrize("library", FRAMEWORKS)
def test_suppression_asks_for_no_batch_and_takes_two(library):
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10], [12, 0, 22, 10]])
    for scores, wanted in (([4.0, 3, 2, 1], [1, 0, 1, 0]), ([3.0, 4, 2, 1], [0, 1, 0, 1])):
        scores, nms = torch.tensor(scores), MODULES[library].nms
        assert nms(boxes, scores, 0.4).tolist() == wanted
        many = nms(boxes.expand(2, 3, 4, 4), scores.expand(2, 3, 4), 0.4)
        assert many.tolist() == [[wanted] * 3] * 2


def greedy(boxes, scores, threshold):
    """The definition once more, with nothing but lists."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(parts.iou(boxes[[i]], boxes[[k]])[0, 0] <= threshold for k in kept):
            kept.append(i)
    return [i in kept for i in range(len(boxes))]


@FUZZ
@given(some(1, 9), st.sampled_from([0.1, 0.25, 0.5, 0.7]), st.data())
def test_suppression_is_the_greedy_answer_whatever_the_order(boxes, threshold, data):
    n = len(boxes)
    boxes = np.concatenate([boxes, boxes + 0.5])  # so that many overlap
    scores = np.array(data.draw(st.lists(st.integers(0, 5), min_size=2 * n, max_size=2 * n))) / 4
    turn = np.array(data.draw(st.permutations(range(2 * n))))
    luck = np.argsort(np.argsort(-scores, kind="stable")) * -1.0  # the same order, without ties
    wanted = np.array(greedy(boxes, scores, threshold))
    for library in LIBRARIES:
        both = np.stack([boxes, boxes[turn]]), np.stack([luck, luck[turn]])
        found = call(library, "nms", *both, threshold=threshold)
        equal(found, np.stack([wanted, wanted[turn]]))
        equal(alone(library, "nms", boxes, scores, threshold=threshold), wanted)
        again = alone(library, "nms", boxes[wanted], scores[wanted], threshold=threshold)
        assert again.all()
