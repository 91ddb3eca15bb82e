"""The network of chapter 21 in Keras: the detector, its four losses, its answers, its training."""

import keras
from keras import layers, ops

from detection import parts, plan, scenes
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

__all__ = ["Batches", "Detector", "answers", "detect", "heads", "losses", "propose", "train"]


class Detector(keras.Model):
    """Pictures (b, h, w, 1) to features (b, h/4, w/4, c), and for each anchor a score and a code."""

    def __init__(self):
        super().__init__()
        small = keras.initializers.RandomNormal(stddev=0.01)
        cells = parts.SIDE // parts.STRIDE

        def conv(filters, **how):
            return layers.Conv2D(filters, 3, kernel_initializer="he_normal", **how)

        self.backbone = keras.Sequential(
            [
                keras.Input(shape=(parts.SIDE, parts.SIDE, 1)),
                layers.ZeroPadding2D(1),  # "same" would pad below and right alone
                conv(16, strides=2),
                layers.ReLU(),
                layers.ZeroPadding2D(1),
                conv(32, strides=2),
                layers.ReLU(),
                conv(64, padding="same"),
                layers.ReLU(),
                conv(64, padding="same"),
                layers.ReLU(),
            ]
        )
        self.window = keras.Sequential(
            [keras.Input(shape=(cells, cells, 64)), conv(64, padding="same"), layers.ReLU()]
        )
        self.objectness = layers.Conv2D(len(parts.SHAPES), 1, kernel_initializer=small)
        self.moves = layers.Conv2D(4 * len(parts.SHAPES), 1, kernel_initializer=small)
        self.hidden = keras.Sequential(
            [
                keras.Input(shape=(None, parts.BINS**2 * 64)),
                layers.Dense(128, kernel_initializer="he_normal"),
                layers.ReLU(),
            ]
        )
        self.classes = layers.Dense(11, kernel_initializer=small)
        self.corrections = layers.Dense(4, kernel_initializer=small)
        for layer in (self.objectness, self.moves):
            layer.build((None, cells, cells, 64))
        for layer in (self.classes, self.corrections):
            layer.build((None, 128))
        self.four = [keras.metrics.Mean(name=name) for name in plan.FOUR]
        self.built = True

    def call(self, images):
        features = self.backbone(images)
        seen = self.window(features)
        objectness = self.objectness(seen)
        codes = self.moves(seen)
        b = images.shape[0]
        return features, ops.reshape(objectness, (b, -1)), ops.reshape(codes, (b, -1, 4))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        four = losses(self, y_pred, y)
        for metric, value in zip(self.four, four, strict=True):
            metric.update_state(value)
        return ops.sum(four)


def heads(model, features, boxes):
    """For each box (b, r, 4): logits of ten digits and of none (b, r, 11), and a code (b, r, 4)."""
    regions = roi_align(features, boxes)
    hidden = model.hidden(ops.reshape(regions, (*boxes.shape[:2], -1)))
    return model.classes(hidden), model.corrections(hidden)


def propose(objectness, codes, nms=nms):
    """The most promising boxes (b, r, 4), and which of them are proposals at all."""
    scores, rows = ops.top_k(objectness, parts.CANDIDATES)
    anchors = ops.take(constant(parts.ANCHORS, codes), rows, axis=0)
    boxes = clip(decode(take(codes, rows), anchors))
    keep = nms(boxes, scores, plan.CROWDED)
    scores = ops.where(keep, scores, -float("inf"))
    scores, rows = ops.top_k(scores, parts.PROPOSALS)
    return take(boxes, rows), scores > -float("inf")


def average(values, use, among):
    """The sum of the values in use, divided by how many there are among which they were chosen."""
    return ops.sum(ops.where(use, values, 0.0)) / ops.sum(ops.cast(among, values.dtype))


def losses(model, outputs, x):
    """Four numbers: is it an object, and where; what is it, and where exactly."""
    features, objectness, codes = outputs
    real, boxes = x["classes"] >= 0, x["boxes"]
    anchors = constant(parts.ANCHORS, codes)
    luck = x["luck"][:, : len(anchors)], x["luck"][:, len(anchors) :]

    overlap = ops.where(real[:, None], iou(anchors, boxes), -1.0)
    kind, which = match(overlap, *plan.ANCHOR, rescue=True)
    rows, use = choose(kind, luck[0], *plan.LEARN_ANCHORS)
    found = use & (ops.take_along_axis(kind, rows, 1) == 1)
    own = take(boxes, ops.take_along_axis(which, rows, 1))
    logits = ops.take_along_axis(objectness, rows, 1)
    error = ops.binary_crossentropy(ops.cast(found, logits.dtype), logits, from_logits=True)
    miss = ops.sum(smooth_l1(take(codes, rows) - encode(own, ops.take(anchors, rows, axis=0))), -1)
    first = average(error, use, use), average(miss, found, use)

    proposals, able = propose(ops.stop_gradient(objectness), ops.stop_gradient(codes))
    proposals = ops.concatenate([proposals, boxes], 1)
    able = ops.concatenate([able, real], 1)
    overlap = ops.where(real[:, None], iou(proposals, boxes), -1.0)
    kind, which = match(overlap, *plan.PROPOSAL)
    kind = ops.where(able, kind, -1)
    rows, use = choose(kind, luck[1], *plan.LEARN_PROPOSALS)
    found = use & (ops.take_along_axis(kind, rows, 1) == 1)
    which = ops.take_along_axis(which, rows, 1)
    proposals, own = take(proposals, rows), take(boxes, which)
    logits, codes = heads(model, features, proposals)
    label = ops.where(found, ops.take_along_axis(x["classes"], which, 1), 10)
    error = ops.sparse_categorical_crossentropy(label, logits, from_logits=True)
    miss = ops.sum(smooth_l1(codes - encode(own, proposals)), -1)
    return ops.stack([*first, average(error, use, use), average(miss, found, use)])


def answers(boxes, able, logits, codes, nms=nms):
    """Boxes (b, r, 4), classes (b, r) and scores (b, r): 0 where another box says the same."""
    probs = ops.softmax(logits, -1)[..., :10]
    scores, classes = ops.max(probs, -1), ops.argmax(probs, -1)
    scores = ops.where(able, scores, 0.0)
    boxes = clip(decode(codes, boxes))
    far = ops.cast(2 * parts.SIDE * classes[..., None], boxes.dtype)
    keep = nms(boxes + far, scores, plan.SAME)  # only boxes of one class compete
    return boxes, classes, ops.where(keep, scores, 0.0)


def detect(model, images, nms=nms):
    with keras.src.backend.torch.core.torch.no_grad():
        features, objectness, codes = model(images, training=False)
        boxes, able = propose(objectness, codes, nms)
        return answers(boxes, able, *heads(model, features, boxes), nms)


class Batches(keras.utils.PyDataset):
    """The batches of a list, in its order."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        x = self.batches[i]
        return x["images"], {name: x[name] for name in ("boxes", "classes", "luck")}


def train(model, batches, steps):
    """A step on each of the batches, by `fit`."""
    warm = int(plan.WARM * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        plan.LR / 25, steps - warm, warmup_target=plan.LR, warmup_steps=warm
    )
    model.compile(keras.optimizers.Adam(schedule, epsilon=1e-7))
    return model.fit(Batches(batches), verbose=0)
