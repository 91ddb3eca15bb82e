"""How good are the boxes: average precision, by its definition. Chapter 20 writes it."""

import numpy as np

from detection import parts

__all__ = ["average_precision", "mean_average_precision", "precision_recall"]


def hits(found, scores, truth, threshold):
    """Which of one picture's boxes hit: the best first, each object once."""
    free, hit = np.ones(len(truth), bool), np.zeros(len(found), bool)
    for i in np.argsort(-scores, kind="stable"):
        overlap = np.where(free, parts.iou(found[[i]], truth)[0], -1)
        if len(truth) and overlap.max() >= threshold:
            free[overlap.argmax()], hit[i] = False, True
    return hit


def precision_recall(hit, scores, objects):
    """Down to each score: the part of the answers that hit, and the part of the objects found."""
    order = np.argsort(-scores, kind="stable")
    last = np.diff(scores[order], append=np.nan) != 0  # no score separates those that are equal
    right, so_far = np.cumsum(hit[order])[last], np.arange(1, len(hit) + 1)[last]
    return right / so_far, right / objects


def average_precision(precision, recall):
    """The area below the curve, each precision raised to the best of any higher recall."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * best))


def mean_average_precision(answers, truths, threshold=0.5):
    """The mean over the classes. A picture has (boxes, classes, scores), and (boxes, classes)."""
    values = []
    for c in sorted({int(k) for _, classes in truths for k in classes}):
        hit, score, objects = [], [], 0
        for (boxes, classes, scores), (true, kinds) in zip(answers, truths, strict=True):
            mine = classes == c
            hit.append(hits(boxes[mine], scores[mine], true[kinds == c], threshold))
            score.append(scores[mine])
            objects += int((kinds == c).sum())
        curve = precision_recall(np.concatenate(hit), np.concatenate(score), objects)
        values.append(average_precision(*curve))
    if not values:
        raise ValueError("No picture has an object, so nothing is to be found: give one that has.")
    return float(np.mean(values))
