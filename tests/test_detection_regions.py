"""Regions (chapter 21) and the metric (20), against cases worked by hand and their definitions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detection import keras_parts, metric, parts, torch_parts
from hypothesis import given
from hypothesis import strategies as st
from test_detection_parts import FRAMEWORKS, FUZZ, LIBRARIES, call, equal, some

from helpers import parity


@pytest.fixture(autouse=True, scope="module")
def exact():
    with parity.float64():
        yield


# ---- regions ----


def regions(library, features, boxes, name="roi_align", **how):
    """Features (b, h, w, c) and boxes (b, r, 4) to (b, r, bins, bins, c)."""
    if library != "numpy":
        return call(library, name, features, boxes, **how)
    found = [
        [getattr(parts, name)(f, box, **how) for box in each]
        for f, each in zip(features, boxes, strict=True)
    ]
    return np.array(found)


def picture(seed, b=2, h=7, w=5, c=3):
    return np.random.default_rng(seed).uniform(-1, 1, (b, h, w, c))


CLOSE = 1e-12
"""A place is below 120 / 4 and takes five roundings, a value changes by at most 2 from one feature
to the next: 2 * 2 * 5 * 30 * 1.1e-16 is 7e-14, and sums of 49 weights add less than that."""


@FUZZ
@given(some(2, 2), st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3))
def test_regions_are_those_of_the_definition(boxes, seed, bins, samples):
    boxes = np.stack([boxes, boxes[::-1] + 0.25])
    wanted = regions("numpy", picture(seed), boxes, bins=bins, samples=samples)
    assert wanted.shape == (2, 2, bins, bins, 3) and np.abs(wanted).max() <= 1 + CLOSE
    for library in FRAMEWORKS:
        found = regions(library, picture(seed), boxes, bins=bins, samples=samples)
        assert np.abs(found - wanted).max() < CLOSE


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_region_of_a_slope_is_the_slope_in_the_middle_of_each_bin(library):
    """Where no place lies beyond the middle of the outermost features: feature i is at 4i + 2."""
    y, x = np.mgrid[:24, :24] * 4.0 + 2
    features = np.stack([x, y, 3 * x - 2 * y + 1], -1)[None]
    box = np.array([10.25, 20.5, 55.25, 80.5])
    found = regions(library, features, box[None, None])[0, 0]
    middle = (np.arange(5) + 0.5) / 5
    wanted_x, wanted_y = np.meshgrid(10.25 + 45 * middle, 20.5 + 60 * middle)
    assert np.abs(found[..., 0] - wanted_x).max() < 96 * CLOSE
    assert np.abs(found[..., 1] - wanted_y).max() < 96 * CLOSE
    assert np.abs(found[..., 2] - (3 * wanted_x - 2 * wanted_y + 1)).max() < 5 * 96 * CLOSE
    far = np.array([[[-50.0, -50, -20, -20], [200, 100, 250, 110]]])  # beyond: the border's value
    found = regions(library, features, far)[0]
    assert np.abs(found[0] - features[0, 0, 0]).max() < 96 * CLOSE
    assert np.abs(found[1] - features[0, 23, 23]).max() < 96 * CLOSE


def test_regions_by_pytorchs_own_sampling():
    features, boxes = picture(4), np.array([[[1.0, 2, 17, 23]], [[-3.0, 8.5, 12.25, 31]]])
    n = (np.arange(10) + 0.5) / 10
    y = (boxes[..., 1:2] + n * (boxes[..., 3:] - boxes[..., 1:2])) / 4  # in features, from the edge
    x = (boxes[..., :1] + n * (boxes[..., 2:3] - boxes[..., :1])) / 4
    place = np.stack(np.broadcast_arrays(x[:, 0, None] / 5, y[:, 0, :, None] / 7), -1) * 2 - 1
    read = F.grid_sample(
        torch.tensor(features).movedim(-1, 1),
        torch.tensor(place),
        padding_mode="border",
        align_corners=False,
    )
    wanted = F.avg_pool2d(read, 2).movedim(1, -1).numpy()
    for library in LIBRARIES:
        assert np.abs(regions(library, features, boxes)[:, 0] - wanted).max() < CLOSE


@pytest.mark.parametrize("library", FRAMEWORKS)
@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_of_a_region_is_its_slope(library, seed):
    """Each output is linear in a feature, and in one edge of the box while no place crosses one.

    So a central difference is exact but for rounding: 2e-16 over the step of 1e-4, some tens of it.
    """
    rng = np.random.default_rng(seed)
    x = picture(seed, b=1)
    box = np.array([[rng.uniform(1, 9, 2), rng.uniform(12, 27, 2)]]).reshape(1, 1, 4)
    places = box[0, 0, None, :2] + (np.arange(4) + 0.5)[:, None] / 4 * (
        box[0, 0, 2:] - box[0, 0, :2]
    )
    middle = places / 4 - 0.5
    assert np.abs(middle - middle.round()).min() > 1e-4  # not at a kink
    weights = torch.tensor(rng.uniform(-1, 1, (1, 1, 2, 2, 3)))
    module = {"keras": keras_parts, "torch": torch_parts}[library]

    def loss(x, box):
        return (module.roi_align(x, box, bins=2) * weights).sum()

    inputs = torch.tensor(x, requires_grad=True), torch.tensor(box, requires_grad=True)
    gradients = torch.autograd.grad(loss(*inputs), inputs)
    for one, gradient in zip(inputs, gradients, strict=True):
        flat = one.detach().view(-1)
        for i in rng.permutation(len(flat))[:12]:
            value, ends = flat[i].item(), []
            for step in (1e-4, -1e-4):
                flat[i] = value + step
                ends.append(loss(*inputs).item())
            flat[i] = value
            assert abs((ends[0] - ends[1]) / 2e-4 - gradient.view(-1)[i].item()) < 1e-10
    assert np.abs(gradients[1].numpy()).min() > 1e-4  # no edge without effect


@pytest.mark.parametrize("library", LIBRARIES)
def test_pooled_regions_worked_by_hand(library):
    features = np.arange(16.0).reshape(1, 4, 4, 1)

    def pool(*box, bins=2, stride=1):
        box = np.array([[box]], float)
        return regions(library, features, box, "roi_pool", bins=bins, stride=stride)[0, 0, ..., 0]

    assert pool(0, 0, 4, 4).tolist() == [[5, 7], [13, 15]]
    assert pool(0, 0, 3, 3).tolist() == [[5, 6], [9, 10]]  # three in two: both take the middle one
    assert pool(1.49, 0.51, 3.49, 3.49, bins=1).tolist() == [[10]]  # rounded to 1, 1, 3, 3
    assert pool(0.5, 0, 2.5, 1, bins=1).tolist() == [[2]]  # a half goes up: 1 to 3
    assert pool(2, 2, 2.2, 2.2).tolist() == [[10, 10], [10, 10]]  # one feature at least
    assert pool(3, 3, 3, 3).tolist() == [[15, 15], [15, 15]]
    assert pool(0, 0, 4, 1, bins=3).tolist() == [[1, 2, 3]] * 3  # bins of unequal size: 2, 2, 2
    assert pool(0, 0, 1, 4, bins=3)[:, 0].tolist() == [4, 8, 12]
    assert pool(0, 0, 12, 8, bins=1, stride=4).tolist() == [[6]]


@FUZZ
@given(some(2, 2), st.integers(0, 2**32), st.integers(1, 5))
def test_pooled_regions_are_pytorchs_adaptive_pooling_of_rounded_boxes(boxes, seed, bins):
    boxes = np.stack([boxes, boxes[::-1] + 0.25]).clip(0, 96)
    features = picture(seed, h=24, w=24)
    wanted = np.zeros((2, 2, bins, bins, 3))
    for b in range(2):
        for r in range(2):
            left, top, right, bottom = np.floor(boxes[b, r] / 4 + 0.5).astype(int).clip(0, 24)
            left, top = min(left, 23), min(top, 23)
            part = features[b, top : max(bottom, top + 1), left : max(right, left + 1)]
            found = F.adaptive_max_pool2d(torch.tensor(part).movedim(-1, 0), bins)
            wanted[b, r] = found.movedim(0, -1).numpy()
    for library in LIBRARIES:
        equal(regions(library, features, boxes, "roi_pool", bins=bins), wanted)


def test_pooled_regions_hand_their_gradient_to_the_largest():
    """As PyTorch's pooling does, where no two features are equal; and alike where many are 0."""
    boxes = np.array([[[3.0, 5, 60, 70], [10, 10, 30, 44]], [[0, 0, 96, 96], [50, 20, 52, 23]]])
    weights = torch.tensor(picture(7, b=2, h=2, w=25).reshape(2, 2, 5, 5, 3))
    for floor in (-1, 0):
        features = picture(8, h=24, w=24).clip(floor)
        found = []
        for module in (keras_parts, torch_parts):
            x = torch.tensor(features, requires_grad=True)
            (module.roi_pool(x, torch.tensor(boxes)) * weights).sum().backward()
            found.append(x.grad)
        assert torch.equal(*found)
        if floor == -1:
            x = torch.tensor(features, requires_grad=True)
            for b, r in ((0, 0), (0, 1), (1, 0), (1, 1)):
                left, top, right, bottom = np.floor(boxes[b, r] / 4 + 0.5).astype(int)
                part = x[b, top : max(bottom, top + 1), left : max(right, left + 1)]
                read = F.adaptive_max_pool2d(part.movedim(-1, 0), 5).movedim(0, -1)
                (read * weights[b, r]).sum().backward()
            assert (x.grad - found[0]).abs().max() < 1e-14  # sums of a few numbers below 1


# ---- the metric ----


def truth(*boxes, kinds=None):
    boxes = np.array(boxes, float).reshape(-1, 4)
    return boxes, np.zeros(len(boxes), int) if kinds is None else np.array(kinds)


def said(*rows):
    """Answers: (box, class, score)."""
    boxes = np.array([row[0] for row in rows], float).reshape(-1, 4)
    return boxes, np.array([row[1] for row in rows], int), np.array([row[2] for row in rows], float)


A, B, C, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [80, 80, 90, 90]
HALF = [0, 0, 5, 10]  # half of A
CASES = {  # answers, truths, mean average precision
    "all found": ([said((A, 0, 0.9), (B, 0, 0.1))], [truth(A, B)], 1),
    "nothing said": ([said()], [truth(A)], 0),
    "one of two": ([said((A, 0, 0.9))], [truth(A, B)], 1 / 2),
    "said twice, last": ([said((A, 0, 0.9), (A, 0, 0.8))], [truth(A)], 1),
    "said twice": ([said((A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7))], [truth(A, B)], (1 + 2 / 3) / 2),
    "wrong class": ([said((A, 1, 0.9))], [truth(A)], 0),
    "wrong class, and right": ([said((A, 1, 0.9), (A, 0, 0.8))], [truth(A)], 1),
    "half of it": ([said((HALF, 0, 0.9))], [truth(A)], 1),
    "less than half": ([said(([0, 0, 4.75, 10], 0, 0.9))], [truth(A)], 0),
    "a false alarm first": ([said((FAR, 0, 0.9), (A, 0, 0.8))], [truth(A)], 1 / 2),
    "an empty picture": ([said((A, 0, 0.8)), said((A, 0, 0.9))], [truth(A), truth()], 1 / 2),
    "a worse box first": ([said((HALF, 0, 0.9), (A, 0, 0.8))], [truth(A)], 1),
    "two boxes for two": (
        [said(([1, 0, 11, 10], 0, 0.9), ([0, 0, 10, 10], 0, 0.8))],
        [truth([2, 0, 12, 10], A)],  # the first takes the one that it overlaps as much, first
        1,
    ),
    "two classes": (
        [said((A, 0, 0.9), (FAR, 1, 0.9), (B, 1, 0.5))],
        [truth(A, B, kinds=[0, 1])],
        (1 + 1 / 2) / 2,
    ),
    "a class that isn't there": ([said((A, 0, 0.9), (B, 7, 0.9))], [truth(A)], 1),
    "true false true false true, of four": (
        [said((A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7), (FAR, 0, 0.6), (C, 0, 0.5))],
        [truth(A, B, C, [60, 0, 70, 10])],
        (1 + 2 / 3 + 3 / 5) / 4,
    ),
    "a better precision later": (  # false, true, true: 2 of 3 counts for both
        [said((FAR, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7))],
        [truth(A, B)],
        2 / 3,
    ),
    "equal scores": ([said((A, 0, 0.5), (FAR, 0, 0.5))], [truth(A)], 1 / 2),
    "equal scores, the other way": ([said((FAR, 0, 0.5), (A, 0, 0.5))], [truth(A)], 1 / 2),
    "in a later picture": ([said(), said((A, 0, 0.3))], [truth(B), truth(A)], 1 / 2),
}


@pytest.mark.parametrize("name", CASES)
def test_average_precision_worked_by_hand(name):
    answers, truths, wanted = CASES[name]
    assert abs(metric.mean_average_precision(answers, truths) - wanted) < 1e-15


def test_the_threshold_is_the_callers():
    answers, truths = [said((HALF, 0, 0.9))], [truth(A)]
    values = [metric.mean_average_precision(answers, truths, t) for t in (0.3, 0.5, 0.51, 0.9)]
    assert values == [1, 1, 0, 0]


def test_without_objects_or_with_too_few_answers_there_is_no_number():
    with pytest.raises(ValueError, match="No picture has an object"):
        metric.mean_average_precision([said((A, 0, 0.9))], [truth()])
    with pytest.raises(ValueError):
        metric.mean_average_precision([said()], [truth(A), truth(B)])


def average(answers, truths, c, threshold):
    """The definition, with lists: what each hit finds, at the best precision from there on."""
    objects = sum((kinds == c).sum() for _, kinds in truths)
    rows = []
    for n, (boxes, classes, scores) in enumerate(answers):
        taken = set()
        for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
            if classes[i] == c:
                free = [
                    (parts.iou(boxes[[i]], truths[n][0][[j]])[0, 0], -j)
                    for j in range(len(truths[n][0]))
                    if truths[n][1][j] == c and j not in taken
                ]
                best = max(free, default=(-1, 0))
                if best[0] >= threshold:
                    taken.add(-best[1])
                rows.append((scores[i], best[0] >= threshold))
    levels = sorted({score for score, _ in rows}, reverse=True)
    above = [[hit for score, hit in rows if score >= level] for level in levels]
    return sum(
        (sum(above[k]) - (sum(above[k - 1]) if k else 0))
        / objects
        * max(sum(hits) / len(hits) for hits in above[k:])
        for k in range(len(levels))
    )


SMALL = st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 4)] * 2)
CORNERS = SMALL.map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
TRUTHS = st.lists(
    st.lists(st.tuples(CORNERS, st.integers(0, 2)), max_size=4), min_size=2, max_size=4
)
ANSWERS = st.lists(
    st.lists(st.tuples(CORNERS, st.integers(0, 2), st.integers(1, 9)), max_size=5),
    min_size=4,
    max_size=4,
)


@FUZZ
@given(TRUTHS, ANSWERS, st.booleans(), st.sampled_from([0.3, 0.5, 0.75]), st.data())
def test_the_metric_keeps_its_laws(objects, answers, close, threshold, data):
    truths = [truth(*(box for box, _ in each), kinds=[k for _, k in each]) for each in objects]
    truths = [(boxes, kinds.astype(int)) for boxes, kinds in truths]
    if not sum(len(kinds) for _, kinds in truths):
        return
    answers = answers[: len(truths)]
    if close:  # many hits
        pairs = zip(answers, objects, strict=True)
        answers = [[*some, *((*o, 5) for o in each[:3])] for some, each in pairs]
    answers = [said(*each) for each in answers]

    def value(answers, truths=truths):
        return metric.mean_average_precision(answers, truths, threshold)

    first = value(answers)
    kinds = sorted({int(k) for _, kinds in truths for k in kinds})
    wanted = np.mean([average(answers, truths, c, threshold) for c in kinds])
    assert abs(first - wanted) < 1e-14 and 0 <= first <= 1
    exactly = [(boxes, kinds, np.full(len(kinds), 0.5)) for boxes, kinds in truths]
    assert abs(value(exactly) - 1) < 1e-15

    turn = data.draw(st.permutations(range(len(truths))))
    turned = value([answers[i] for i in turn], [truths[i] for i in turn])
    assert abs(turned - first) < 1e-14
    squares = [(boxes, kinds, scores**2) for boxes, kinds, scores in answers]
    assert abs(value(squares) - first) < 1e-14  # only their order matters

    score, kind = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 2))
    boxes, classes, scores = answers[0]
    false = np.append(boxes, [FAR], 0), np.append(classes, kind), np.append(scores, score)
    worse = value([false, *answers[1:]])
    assert worse <= first + 1e-14
    if score == 0:
        assert abs(worse - first) < 1e-14  # after all others, it can't harm
