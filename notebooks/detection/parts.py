"""The parts of Faster R-CNN in NumPy, for one picture, as near to their definitions as can be.

Chapters 20 and 21 build each. They are slow on purpose: what they are for is to be believed.
"""

import numpy as np

__all__ = [
    "ANCHORS",
    "choose",
    "clip",
    "decode",
    "encode",
    "grid",
    "iou",
    "match",
    "nms",
    "roi_align",
    "roi_pool",
]

SIDE, STRIDE = 96, 4  # pixels of a scene; pixels from one feature to the next
SHAPES = [(h * aspect, h) for h in (18, 26, 36) for aspect in (0.4, 0.8)]  # width, height
CODE = np.array([0.1, 0.1, 0.2, 0.2])  # the unit of each number of a code
GROWTH = np.log(96)  # no box is wider than 96 times its anchor
BINS, SAMPLES = 5, 2  # of a region, along each side; points in a bin, along each side
CANDIDATES, PROPOSALS = 96, 32  # before and after the network's own suppression


def area(boxes):
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a, b):
    """Intersection over union of each box of a (n, 4) with each of b (m, 4): (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=-1)
    return both / np.maximum(area(a)[:, None] + area(b)[None] - both, 1e-9)


def grid(side, stride, shapes):
    """An anchor of each shape around the centre of each feature: (rows * columns * shapes, 4)."""
    centre = (np.arange(side // stride) + 0.5) * stride
    y, x = np.meshgrid(centre, centre, indexing="ij")
    half = np.array(shapes) / 2
    middle = np.stack([x, y], -1)[:, :, None]
    return np.concatenate([middle - half, middle + half], -1).reshape(-1, 4)


ANCHORS = grid(SIDE, STRIDE, SHAPES)


def encode(boxes, anchors):
    """From anchors to boxes: the shift as a part of the anchor's size, the growth's logarithm."""
    size = anchors[..., 2:] - anchors[..., :2]
    shift = (boxes[..., 2:] + boxes[..., :2] - anchors[..., 2:] - anchors[..., :2]) / 2 / size
    growth = np.log((boxes[..., 2:] - boxes[..., :2]) / size)
    return np.concatenate([shift, growth], -1) / CODE


def decode(codes, anchors):
    """The boxes that `encode` would give these codes."""
    codes, size = codes * CODE, anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., 2:] + anchors[..., :2]) / 2 + codes[..., :2] * size
    half = size * np.exp(np.minimum(codes[..., 2:], GROWTH)) / 2
    return np.concatenate([centre - half, centre + half], -1)


def clip(boxes, side=SIDE):
    """Boxes cut to the picture; what lies outside keeps one pixel at its border."""
    low = np.clip(boxes[..., :2], 0, side - 1)
    high = np.maximum(np.clip(boxes[..., 2:], 0, side), low + 1)
    return np.concatenate([low, high], -1)


def match(overlap, low, high, rescue=False):
    """What each row of an overlap (n, m) with m objects should say, and which object is its own.

    1: an object (overlap at least `high`), 0: background (below `low`), -1: neither, don't ask.
    With `rescue`, a row that no other beats at an object is of kind 1, too, however little it
    overlaps it. Its own object is still the one that it overlaps most.
    """
    best, which = overlap.max(1), overlap.argmax(1)
    kind = np.where(best >= high, 1, np.where(best < low, 0, -1))
    if rescue:
        top = overlap.max(0)
        kind[((overlap == top) & (top > 0)).any(1)] = 1
    return kind, which


def choose(kind, luck, count, objects):
    """`count` rows to learn from, at most `objects` of them of kind 1: the luckiest of their kind.

    Returns the rows, and which of them are to be used: there may be too few.
    """
    lucky = np.flatnonzero(kind == 1)
    lucky = lucky[np.argsort(-luck[lucky], kind="stable")][:objects]
    others = np.flatnonzero(kind == 0)
    others = others[np.argsort(-luck[others], kind="stable")][: count - len(lucky)]
    rows = np.concatenate([lucky, others])
    use = np.arange(count) < len(rows)
    return np.resize(rows, count), use


def nms(boxes, scores, threshold):
    """Which boxes (n, 4) stay: the best one, then the best that doesn't overlap it, and on."""
    keep, left = np.zeros(len(boxes), bool), np.argsort(-scores, kind="stable")
    while len(left):
        first, left = left[0], left[1:]
        keep[first] = True
        left = left[iou(boxes[[first]], boxes[left])[0] <= threshold]
    return keep


def bilinear(features, y, x):
    """The value of features (h, w, c) at a place between them; beyond the border, the border's."""
    h, w, _ = features.shape
    y, x = np.clip(y, 0, h - 1), np.clip(x, 0, w - 1)
    top, left = min(int(y), h - 2), min(int(x), w - 2)
    dy, dx = y - top, x - left
    upper = (1 - dx) * features[top, left] + dx * features[top, left + 1]
    lower = (1 - dx) * features[top + 1, left] + dx * features[top + 1, left + 1]
    return (1 - dy) * upper + dy * lower


def roi_align(features, box, bins=BINS, samples=SAMPLES, stride=STRIDE):
    """A box of features (h, w, c) as (bins, bins, c): in each bin, the mean of samples² places."""
    left, top, right, bottom = box / stride - 0.5  # feature i stands at the middle of its cell
    n, out = bins * samples, np.zeros((bins, bins, features.shape[-1]))
    for i in range(n):
        for j in range(n):
            y, x = top + (i + 0.5) * (bottom - top) / n, left + (j + 0.5) * (right - left) / n
            out[i // samples, j // samples] += bilinear(features, y, x) / samples**2
    return out


def roi_pool(features, box, bins=BINS, stride=STRIDE):
    """The older way: the box rounded to whole features, and the largest feature of each bin.

    The box must lie inside the picture.
    """
    h, w, c = features.shape
    left, top, right, bottom = np.floor(box / stride + 0.5).astype(int)
    out = np.zeros((bins, bins, c))
    for i in range(bins):
        for j in range(bins):
            rows = np.arange(*edges(top, bottom, i, bins)).clip(0, h - 1)
            columns = np.arange(*edges(left, right, j, bins)).clip(0, w - 1)
            out[i, j] = features[np.ix_(rows, columns)].max((0, 1))
    return out


def edges(low, high, i, bins):
    """The first feature of a bin, and the first after it: at least one feature in each."""
    size = max(high - low, 1)
    return low + i * size // bins, low + -(-(i + 1) * size // bins)
