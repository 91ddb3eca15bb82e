"""The network of chapter 22 in Keras: detector, four losses, answers, training."""

from functools import partial

import keras
import numpy as np
from keras import layers, ops

from detection import parts, plan
from detection.keras_parts import (
    choose,
    clip,
    constant,
    decode,
    encode,
    iou,
    match,
    nms,
    roi_align,
    smooth_l1,
    take,
)

__all__ = [
    "Detector",
    "Lesson",
    "anchor_losses",
    "answers",
    "conv",
    "dense",
    "detect",
    "head_losses",
    "heads",
    "losses",
    "propose",
    "train",
]

conv = partial(layers.Conv2D, kernel_initializer="he_normal")
dense = partial(layers.Dense, kernel_initializer="he_normal")


class Detector(keras.Model):
    """Pictures (b, h, w, 1) to features (b, h/4, w/4, 48), and anchors' scores and codes."""

    def __init__(self, read=roi_align):
        super().__init__()
        self.read = read
        self.backbone = keras.Sequential(
            [
                conv(16, 4, strides=2, padding="same"),
                layers.ReLU(),
                conv(32, 4, strides=2, padding="same"),
                layers.ReLU(),
                conv(48, 3, padding="same"),
                layers.ReLU(),
                conv(48, 3, padding="same"),
                layers.ReLU(),
            ]
        )
        self.window = keras.Sequential(
            [
                conv(48, 3, padding="same"),
                layers.ReLU(),
            ]
        )
        self.objectness = conv(6, 1)
        self.moves = conv(6 * 4, 1)
        self.hidden = keras.Sequential(
            [
                dense(128),
                layers.ReLU(),
            ]
        )
        self.classes = dense(11)
        self.corrections = dense(4)
        self.built = True
        detect(self, ops.zeros((1, 96, 96, 1)))  # each layer makes its weights

    def call(self, images):
        features = self.backbone(images)
        seen = self.window(features)
        scores = self.objectness(seen)
        codes = self.moves(seen)
        scores = ops.reshape(scores, (images.shape[0], -1))
        codes = ops.reshape(codes, (*scores.shape, 4))
        return features, scores, codes


def propose(scores, codes, crowded=plan.CROWDED):
    """The most promising boxes (b, r, 4), and which of them are proposals at all."""
    if scores.shape[1] != len(parts.ANCHORS):
        raise ValueError(
            f"The anchors are those of {parts.SIDE} by {parts.SIDE} pixels: cut or pad."
        )
    scores, rows = ops.top_k(scores, parts.CANDIDATES)
    anchors = constant(parts.ANCHORS, codes)
    anchors = ops.take(anchors, rows, axis=0)
    codes = take(codes, rows)
    boxes = clip(decode(codes, anchors))
    keep = nms(boxes, scores, crowded)
    scores = ops.where(keep, scores, -np.inf)
    scores, rows = ops.top_k(scores, parts.PROPOSALS)
    return take(boxes, rows), scores > -np.inf


def heads(model, features, boxes):
    """For each box (b, r, 4): logits of ten digits and of none (b, r, 11), and a code (b, r, 4)."""
    regions = model.read(features, boxes)
    regions = ops.reshape(regions, (*boxes.shape[:2], -1))
    hidden = model.hidden(regions)
    return model.classes(hidden), model.corrections(hidden)


def average(values, use, among):
    """The sum of the values in use, divided by how many there are among which they were chosen."""
    total = ops.sum(ops.where(use, values, 0.0))
    return total / ops.sum(among)


def anchor_losses(scores, codes, x):
    """What the first stage gets wrong: is an anchor at an object, and where is that?"""
    anchors = constant(parts.ANCHORS, codes)
    luck = x["luck"][:, : len(anchors)]
    real = x["classes"][:, None] >= 0
    overlap = ops.where(real, iou(anchors, x["boxes"]), -1.0)
    kind, which = match(overlap, *plan.ANCHOR, rescue=True)
    rows, use = choose(kind, luck, *plan.LEARN_ANCHORS)
    found = use & (ops.take_along_axis(kind, rows, 1) == 1)
    own = ops.take_along_axis(which, rows, 1)
    anchors = ops.take(anchors, rows, axis=0)
    goal = encode(take(x["boxes"], own), anchors)
    scores = ops.take_along_axis(scores, rows, 1)
    error = ops.binary_crossentropy(ops.cast(found, scores.dtype), scores, from_logits=True)
    miss = smooth_l1(take(codes, rows) - goal)
    miss = ops.sum(miss, -1)
    first = average(error, use, use)
    return first, average(miss, found, use)


def head_losses(model, features, proposals, able, x):
    """What the second stage gets wrong: which digit is in a proposal, and where exactly?"""
    luck = x["luck"][:, len(parts.ANCHORS) :]
    real = x["classes"][:, None] >= 0
    boxes = ops.concatenate([proposals, x["boxes"]], 1)
    able = ops.concatenate([able, real[:, 0]], 1)
    overlap = ops.where(real, iou(boxes, x["boxes"]), -1.0)
    kind, which = match(overlap, *plan.PROPOSAL)
    kind = ops.where(able, kind, -1)
    rows, use = choose(kind, luck, *plan.LEARN_PROPOSALS)
    found = use & (ops.take_along_axis(kind, rows, 1) == 1)
    own = ops.take_along_axis(which, rows, 1)
    boxes = take(boxes, rows)
    logits, codes = heads(model, features, boxes)
    label = ops.take_along_axis(x["classes"], own, 1)
    label = ops.where(found, label, 10)
    error = ops.sparse_categorical_crossentropy(label, logits, from_logits=True)
    goal = encode(take(x["boxes"], own), boxes)
    miss = ops.sum(smooth_l1(codes - goal), -1)
    first = average(error, use, use)
    return first, average(miss, found, use)


def losses(model, outputs, x):
    """The four numbers that training makes small, in the order of `plan.FOUR`."""
    features, scores, codes = outputs
    first = anchor_losses(scores, codes, x)
    scores = ops.stop_gradient(scores)
    codes = ops.stop_gradient(codes)
    held = propose(scores, codes)
    second = head_losses(model, features, *held, x)
    return ops.stack([*first, *second])


def answers(boxes, able, logits, codes, same=plan.SAME):
    """Boxes (b, r, 4), classes (b, r) and scores (b, r): 0 where another box says the same."""
    probs = ops.softmax(logits, -1)[..., :10]
    scores = ops.max(probs, -1)
    classes = ops.argmax(probs, -1)
    scores = ops.where(able, scores, 0.0)
    boxes = clip(decode(codes, boxes))
    far = ops.cast(classes[..., None], boxes.dtype)
    far = boxes + 2 * parts.SIDE * far
    keep = nms(far, scores, same)
    return boxes, classes, ops.where(keep, scores, 0.0)


def detect(model, images):
    """Pictures to answers."""
    features, scores, codes = model(images)
    boxes, able = propose(scores, codes)
    logits, codes = heads(model, features, boxes)
    return answers(boxes, able, logits, codes)


class Lesson(keras.Model):
    """A detector, and what it is to learn: the way to put several losses into `fit`."""

    def __init__(self, detector, note):
        super().__init__()
        self.detector, self.note = detector, note

    def call(self, images):
        return self.detector(images)

    def compute_loss(self, x, y, y_pred, *_, **__):
        four = losses(self.detector, y_pred, y)
        self.note(ops.convert_to_numpy(ops.stop_gradient(four)))
        return ops.sum(four)


def train(model, batches):
    """A step on each of the batches. Returns the four losses before each step (steps, 4)."""
    warm, history = int(plan.WARM * len(batches)), []
    rate = keras.optimizers.schedules.CosineDecay(
        plan.LR / 25, len(batches) - warm, warmup_target=plan.LR, warmup_steps=warm
    )
    lesson = Lesson(model, history.append)
    adam = keras.optimizers.Adam(rate, epsilon=plan.EPSILON)
    lesson.compile(adam)
    pairs = ((x["images"], x) for x in batches)
    lesson.fit(pairs, steps_per_epoch=len(batches), shuffle=False, verbose=0)
    return np.stack(history)
