"""The parts of Faster R-CNN in PyTorch, for a batch of pictures, from chapters 20 and 21."""

import numpy as np
import torch
from torch.nn import functional as F

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
    """An array as a tensor of the same type as another, and on its device."""
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)


def take(values, rows):
    """Rows (..., k) of values (..., n, d): (..., k, d)."""
    rows = rows[..., None]
    return torch.take_along_dim(values, rows, -2)


def area(boxes):
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a, b):
    """(..., n, 4) and (..., m, 4) to (..., n, m)."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    low = torch.maximum(a[..., :2], b[..., :2])
    high = torch.minimum(a[..., 2:], b[..., 2:])
    both = torch.clamp(high - low, min=0).prod(-1)
    union = area(a) + area(b) - both
    return both / torch.clamp(union, min=1e-9)


def encode(boxes, anchors):
    size = anchors[..., 2:] - anchors[..., :2]
    shift = boxes[..., 2:] + boxes[..., :2]
    shift = shift - anchors[..., 2:] - anchors[..., :2]
    shift = shift / 2 / size
    growth = (boxes[..., 2:] - boxes[..., :2]) / size
    growth = torch.log(growth)
    codes = torch.cat([shift, growth], -1)
    return codes / constant(parts.CODE, codes)


def decode(codes, anchors):
    codes = codes * constant(parts.CODE, codes)
    size = anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., 2:] + anchors[..., :2]) / 2
    centre = centre + codes[..., :2] * size
    growth = torch.clamp(codes[..., 2:], max=parts.GROWTH)
    half = size * torch.exp(growth) / 2
    return torch.cat([centre - half, centre + half], -1)


def clip(boxes, side=parts.SIDE):
    low = torch.clamp(boxes[..., :2], 0, side - 1)
    high = torch.clamp(boxes[..., 2:], 0, side)
    high = torch.maximum(high, low + 1)
    return torch.cat([low, high], -1)


def match(overlap, low, high, rescue=False):
    best = overlap.amax(-1)
    which = overlap.argmax(-1)
    kind = torch.where(best < low, 0, -1)
    kind = torch.where(best >= high, 1, kind)
    if rescue:
        top = overlap.amax(-2, keepdim=True)
        own = ((overlap == top) & (top > 0)).any(-1)
        kind = torch.where(own, 1, kind)
    return kind, which


def rank(values):
    """The rows in the order of their values, the largest first; of equal ones, the first."""
    return torch.argsort(-values, stable=True)


def choose(kind, luck, count, objects):
    key = torch.where(kind == 1, luck, -1.0)
    place = torch.argsort(rank(key))
    lucky = (kind == 1) & (place < objects)
    key = torch.where(kind == 0, luck, -1.0)
    key = torch.where(lucky, 2 + luck, key)
    rows = rank(key)[..., :count]
    use = torch.take_along_dim(key, rows, -1) >= 0
    return rows, use


def nms(boxes, scores, threshold):
    """Which of (..., n, 4) stay, all pictures at once: a fixed point in place of a list."""
    order = rank(scores)
    boxes = take(boxes, order)
    over = iou(boxes, boxes) > threshold
    over = torch.triu(over, 1)
    keep = torch.ones_like(order, dtype=torch.bool)
    before = torch.zeros_like(order, dtype=torch.bool)
    while (keep != before).any():
        better = over & keep[..., None]
        keep, before = ~better.any(-2), keep
    back = torch.argsort(order)
    return torch.take_along_dim(keep, back, -1)


def hats(low, high, cells, bins, samples):
    """How much of each cell each bin reads, along one side: (..., bins, cells)."""
    n = bins * samples
    steps = constant((np.arange(n) + 0.5) / n, low)
    size = (high - low)[..., None]
    place = low[..., None] + steps * size - 0.5
    place = torch.clamp(place, 0, cells - 1)
    cell = constant(np.arange(cells), low)
    hat = 1 - torch.abs(place[..., None] - cell)
    hat = torch.clamp(hat, min=0)
    shape = *low.shape, bins, samples, cells
    return hat.reshape(shape).mean(-2)


def roi_align(features, boxes, bins=parts.BINS, samples=parts.SAMPLES, stride=parts.STRIDE):
    """Features (b, h, w, c) and boxes (b, r, 4) to (b, r, bins, bins, c)."""
    h, w = features.shape[1:3]
    boxes = boxes / stride
    left, top, right, bottom = boxes.unbind(-1)
    rows = hats(top, bottom, h, bins, samples)
    columns = hats(left, right, w, bins, samples)
    across = torch.einsum("brph,bhwc->brpwc", rows, features)
    return torch.einsum("brqw,brpwc->brpqc", columns, across)


def cells(low, high, count, bins):
    """The features of each bin along one side, the last one repeated: (..., bins, most)."""
    size = torch.clamp(high - low, min=1)[..., None]
    i = torch.arange(bins, device=low.device)
    first = low[..., None] + i * size // bins
    last = low[..., None] + ((i + 1) * size - 1) // bins
    most = int((last - first).max()) + 1
    step = torch.arange(most, device=low.device)
    cell = torch.minimum(first[..., None] + step, last[..., None])
    return torch.clamp(cell, 0, count - 1)


def roi_pool(features, boxes, bins=parts.BINS, stride=parts.STRIDE):
    """Features (b, h, w, c) and boxes (b, r, 4) to (b, r, bins, bins, c)."""
    b, h, w, c = features.shape
    corners = torch.floor(boxes / stride + 0.5)
    corners = corners.long()
    left, top, right, bottom = corners.unbind(-1)
    rows = cells(top, bottom, h, bins)
    columns = cells(left, right, w, bins)
    picture = torch.arange(b, device=boxes.device)
    rows = rows + h * picture[:, None, None, None]
    across = features.reshape(b * h, w, c)
    across = across[rows].amax(3)
    n = bins * columns.shape[-1]
    columns = columns.reshape(b, -1, 1, n, 1)
    found = torch.take_along_dim(across, columns, 3)
    shape = b, -1, bins, bins, n // bins, c
    return found.reshape(shape).amax(4)


def smooth_l1(difference):
    """Half the square up to 1, the distance less a half beyond: Huber's loss."""
    zero = torch.zeros_like(difference)
    return F.smooth_l1_loss(difference, zero, reduction="none")
