"""The parts of Faster R-CNN in keras.ops, for a batch of pictures, from chapters 20 and 21."""

import numpy as np
from keras import ops

from detection import parts

__all__ = [
    "choose",
    "clip",
    "constant",
    "decode",
    "encode",
    "iou",
    "match",
    "nms",
    "roi_align",
    "roi_pool",
    "smooth_l1",
    "take",
]


def constant(values, like):
    """An array as a tensor of the same type as another."""
    return ops.convert_to_tensor(values, dtype=like.dtype)


def take(values, rows):
    """Rows (..., k) of values (..., n, d): (..., k, d)."""
    rows = rows[..., None]
    return ops.take_along_axis(values, rows, -2)


def area(boxes):
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a, b):
    """(..., n, 4) and (..., m, 4) to (..., n, m)."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    low = ops.maximum(a[..., :2], b[..., :2])
    high = ops.minimum(a[..., 2:], b[..., 2:])
    both = ops.prod(ops.maximum(high - low, 0), -1)
    union = area(a) + area(b) - both
    return both / ops.maximum(union, 1e-9)


def encode(boxes, anchors):
    size = anchors[..., 2:] - anchors[..., :2]
    shift = boxes[..., 2:] + boxes[..., :2]
    shift = shift - anchors[..., 2:] - anchors[..., :2]
    shift = shift / 2 / size
    growth = (boxes[..., 2:] - boxes[..., :2]) / size
    growth = ops.log(growth)
    codes = ops.concatenate([shift, growth], -1)
    return codes / constant(parts.CODE, codes)


def decode(codes, anchors):
    codes = codes * constant(parts.CODE, codes)
    size = anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., 2:] + anchors[..., :2]) / 2
    centre = centre + codes[..., :2] * size
    growth = ops.minimum(codes[..., 2:], parts.GROWTH)
    half = size * ops.exp(growth) / 2
    return ops.concatenate([centre - half, centre + half], -1)


def clip(boxes, side=parts.SIDE):
    low = ops.clip(boxes[..., :2], 0, side - 1)
    high = ops.clip(boxes[..., 2:], 0, side)
    high = ops.maximum(high, low + 1)
    return ops.concatenate([low, high], -1)


def match(overlap, low, high, rescue=False):
    best = ops.max(overlap, -1)
    which = ops.argmax(overlap, -1)
    kind = ops.where(best < low, 0, -1)
    kind = ops.where(best >= high, 1, kind)
    if rescue:
        top = ops.max(overlap, -2, keepdims=True)
        own = ops.any((overlap == top) & (top > 0), -1)
        kind = ops.where(own, 1, kind)
    return kind, which


def rank(values):
    """The rows in the order of their values, the largest first; of equal ones, the first."""
    return ops.argsort(-values)


def choose(kind, luck, count, objects):
    key = ops.where(kind == 1, luck, -1.0)
    place = ops.argsort(rank(key))
    lucky = (kind == 1) & (place < objects)
    key = ops.where(kind == 0, luck, -1.0)
    key = ops.where(lucky, 2 + luck, key)
    rows = rank(key)[..., :count]
    use = ops.take_along_axis(key, rows, -1) >= 0
    return rows, use


def nms(boxes, scores, threshold):
    """Which of (..., n, 4) stay, all pictures at once: a fixed point in place of a list."""
    order = rank(scores)
    boxes = take(boxes, order)
    over = iou(boxes, boxes) > threshold
    over = ops.triu(over, 1)
    keep = ops.ones_like(order, dtype="bool")
    before = ops.zeros_like(order, dtype="bool")
    while ops.any(keep != before):
        better = over & keep[..., None]
        keep, before = ~ops.any(better, -2), keep
    back = ops.argsort(order)
    return ops.take_along_axis(keep, back, -1)


def hats(low, high, cells, bins, samples):
    """How much of each cell each bin reads, along one side: (..., bins, cells)."""
    n = bins * samples
    steps = constant((np.arange(n) + 0.5) / n, low)
    size = (high - low)[..., None]
    place = low[..., None] + steps * size - 0.5
    place = ops.clip(place, 0, cells - 1)
    cell = constant(np.arange(cells), low)
    hat = 1 - ops.abs(place[..., None] - cell)
    hat = ops.maximum(hat, 0)
    shape = *low.shape, bins, samples, cells
    return ops.mean(ops.reshape(hat, shape), -2)


def roi_align(features, boxes, bins=parts.BINS, samples=parts.SAMPLES, stride=parts.STRIDE):
    """Features (b, h, w, c) and boxes (b, r, 4) to (b, r, bins, bins, c)."""
    h, w = features.shape[1:3]
    boxes = boxes / stride
    left, top, right, bottom = ops.unstack(boxes, axis=-1)
    rows = hats(top, bottom, h, bins, samples)
    columns = hats(left, right, w, bins, samples)
    across = ops.einsum("brph,bhwc->brpwc", rows, features)
    return ops.einsum("brqw,brpwc->brpqc", columns, across)


def cells(low, high, count, bins):
    """The features of each bin along one side, the last one repeated: (..., bins, most)."""
    size = ops.maximum(high - low, 1)[..., None]
    i = ops.arange(bins)
    first = low[..., None] + i * size // bins
    last = low[..., None] + ((i + 1) * size - 1) // bins
    most = int(ops.max(last - first)) + 1
    step = ops.arange(most)
    cell = ops.minimum(first[..., None] + step, last[..., None])
    return ops.clip(cell, 0, count - 1)


def roi_pool(features, boxes, bins=parts.BINS, stride=parts.STRIDE):
    """Features (b, h, w, c) and boxes (b, r, 4) to (b, r, bins, bins, c)."""
    b, h, w, c = features.shape
    corners = ops.floor(boxes / stride + 0.5)
    corners = ops.cast(corners, "int32")
    left, top, right, bottom = ops.unstack(corners, axis=-1)
    rows = cells(top, bottom, h, bins)
    columns = cells(left, right, w, bins)
    picture = ops.arange(b)
    rows = rows + h * picture[:, None, None, None]
    across = ops.reshape(features, (b * h, w, c))
    across = ops.max(ops.take(across, rows, axis=0), 3)
    n = bins * columns.shape[-1]
    columns = ops.reshape(columns, (b, -1, 1, n, 1))
    found = ops.take_along_axis(across, columns, 3)
    shape = b, -1, bins, bins, n // bins, c
    return ops.max(ops.reshape(found, shape), 4)


def smooth_l1(difference):
    """Half the square up to 1, the distance less a half beyond: Huber's loss."""
    size = ops.abs(difference)
    return ops.where(size < 1, size**2 / 2, size - 0.5)
