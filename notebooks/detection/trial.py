"""Trials: what a network finds in pictures, with parts of it switched off, and how good that is."""

import numpy as np
import torch

from detection import metric, parts, plan

__all__ = ["LEAST", "THRESHOLDS", "ask", "detect_without", "judge", "sort_out", "truths"]

LEAST = 0.05  # an answer with a smaller score isn't given
THRESHOLDS = np.arange(50, 100, 5) / 100  # overlaps from which an answer counts as right


def truths(data):
    """The boxes and classes of each picture, without the rows that only fill up."""
    _, boxes, classes = data
    return [(b[k >= 0], k[k >= 0]) for b, k in zip(boxes, classes, strict=True)]


def detect_without(net, model, images, first=1, second=1, crowded=plan.CROWDED, same=plan.SAME):
    """`net.detect`, its moves and its corrections times a number, with its thresholds changed."""
    features, scores, codes = model(images)
    boxes, able = net.propose(scores, first * codes, crowded)
    logits, codes = net.heads(model, features, boxes)
    return net.answers(boxes, able, logits, second * codes, same)


@torch.no_grad()
def ask(net, model, pictures, **without):
    """For each picture (n, h, w) of bytes what `net` finds there: boxes, classes, scores."""
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(pictures), 50):
        images = pictures[start : start + 50, ..., None] / np.float32(255)
        images = torch.as_tensor(images, device=device)
        each = detect_without(net, model, images, **without)
        for boxes, classes, scores in zip(*(t.cpu().numpy() for t in each), strict=True):
            given = scores >= LEAST
            found.append((boxes[given], classes[given], scores[given]))
    return found


def judge(found, true, thresholds=THRESHOLDS):
    """The mean average precision at each of the thresholds."""
    return np.array([metric.mean_average_precision(found, true, t) for t in thresholds])


def sort_out(found, true, sure=0.5, threshold=0.5):
    """The answers of one picture with a score of `sure`, by kind, and the objects nobody found.

    Returns a word for each answer (right, wrong class, badly placed, twice, clutter; none where it
    isn't sure), and for each object whether it is missed.
    """
    boxes, classes, scores = found
    objects, kinds = true
    words, free = [""] * len(boxes), np.ones(len(objects), bool)
    overlap = parts.iou(boxes, objects)
    for i in np.argsort(-scores, kind="stable"):
        if scores[i] < sure:
            break
        mine = np.where(kinds == classes[i], overlap[i], 0)
        if (free * mine).max() >= threshold:
            words[i], free[(free * mine).argmax()] = "right", False
        elif mine.max() >= threshold:
            words[i] = "twice"
        elif overlap[i].max() >= threshold:
            words[i] = "wrong class"
        elif overlap[i].max() >= 0.1:
            words[i] = "badly placed"
        else:
            words[i] = "clutter"
    return words, free & ~(overlap[scores >= sure] >= threshold).any(0)
