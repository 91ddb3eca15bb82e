"""The network of chapter 21 in PyTorch: the detector, its four losses, its answers, its training."""

import torch
from torch import nn
from torch.nn import functional as F

from detection import parts, plan
from detection.torch_parts import (
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

__all__ = ["Detector", "answers", "detect", "heads", "losses", "propose", "train"]


class Detector(nn.Module):
    """Pictures (b, h, w, 1) to features (b, h/4, w/4, c), and for each anchor a score and a code."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
        )
        self.window = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
        )
        self.objectness = nn.Conv2d(64, len(parts.SHAPES), 1)
        self.moves = nn.Conv2d(64, 4 * len(parts.SHAPES), 1)
        self.hidden = nn.Sequential(
            nn.Linear(parts.BINS**2 * 64, 128),
            nn.ReLU(),
        )
        self.classes = nn.Linear(128, 11)
        self.corrections = nn.Linear(128, 4)
        last = self.objectness, self.moves, self.classes, self.corrections
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        for layer in last:
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, images):
        features = self.backbone(images.movedim(-1, 1))
        seen = self.window(features)
        objectness = self.objectness(seen).movedim(1, -1)
        codes = self.moves(seen).movedim(1, -1)
        b = images.shape[0]
        return features.movedim(1, -1), objectness.reshape(b, -1), codes.reshape(b, -1, 4)


def heads(model, features, boxes):
    """For each box (b, r, 4): logits of ten digits and of none (b, r, 11), and a code (b, r, 4)."""
    hidden = model.hidden(roi_align(features, boxes).flatten(2))
    return model.classes(hidden), model.corrections(hidden)


def propose(objectness, codes, nms=nms):
    """The most promising boxes (b, r, 4), and which of them are proposals at all."""
    scores, rows = torch.topk(objectness, parts.CANDIDATES)
    anchors = constant(parts.ANCHORS, codes)[rows]
    boxes = clip(decode(take(codes, rows), anchors))
    keep = nms(boxes, scores, plan.CROWDED)
    scores = torch.where(keep, scores, -torch.inf)
    scores, rows = torch.topk(scores, parts.PROPOSALS)
    return take(boxes, rows), scores > -torch.inf


def average(values, use, among):
    """The sum of the values in use, divided by how many there are among which they were chosen."""
    return torch.where(use, values, 0.0).sum() / among.sum()


def losses(model, outputs, x):
    """Four numbers: is it an object, and where; what is it, and where exactly."""
    features, objectness, codes = outputs
    real, boxes = x["classes"] >= 0, x["boxes"]
    anchors = constant(parts.ANCHORS, codes)
    luck = x["luck"][:, : len(anchors)], x["luck"][:, len(anchors) :]

    overlap = torch.where(real[:, None], iou(anchors, boxes), -1.0)
    kind, which = match(overlap, *plan.ANCHOR, rescue=True)
    rows, use = choose(kind, luck[0], *plan.LEARN_ANCHORS)
    found = use & (torch.take_along_dim(kind, rows, 1) == 1)
    own = take(boxes, torch.take_along_dim(which, rows, 1))
    logits = torch.take_along_dim(objectness, rows, 1)
    error = F.binary_cross_entropy_with_logits(logits, found.to(logits), reduction="none")
    miss = smooth_l1(take(codes, rows) - encode(own, anchors[rows])).sum(-1)
    first = average(error, use, use), average(miss, found, use)

    with torch.no_grad():
        proposals, able = propose(objectness, codes)
    proposals, able = torch.cat([proposals, boxes], 1), torch.cat([able, real], 1)
    overlap = torch.where(real[:, None], iou(proposals, boxes), -1.0)
    kind, which = match(overlap, *plan.PROPOSAL)
    kind = torch.where(able, kind, -1)
    rows, use = choose(kind, luck[1], *plan.LEARN_PROPOSALS)
    found = use & (torch.take_along_dim(kind, rows, 1) == 1)
    which = torch.take_along_dim(which, rows, 1)
    proposals, own = take(proposals, rows), take(boxes, which)
    logits, codes = heads(model, features, proposals)
    label = torch.where(found, torch.take_along_dim(x["classes"], which, 1), 10)
    error = F.cross_entropy(logits.movedim(-1, 1), label, reduction="none")
    miss = smooth_l1(codes - encode(own, proposals)).sum(-1)
    return torch.stack([*first, average(error, use, use), average(miss, found, use)])


def answers(boxes, able, logits, codes, nms=nms):
    """Boxes (b, r, 4), classes (b, r) and scores (b, r): 0 where another box says the same."""
    probs = torch.softmax(logits, -1)[..., :10]
    scores, classes = probs.max(-1)
    scores = torch.where(able, scores, 0.0)
    boxes = clip(decode(codes, boxes))
    apart = boxes + 2 * parts.SIDE * classes[..., None]  # only boxes of one class compete
    keep = nms(apart, scores, plan.SAME)
    return boxes, classes, torch.where(keep, scores, 0.0)


@torch.no_grad()
def detect(model, images, nms=nms):
    features, objectness, codes = model(images)
    boxes, able = propose(objectness, codes, nms)
    return answers(boxes, able, *heads(model, features, boxes), nms)


def train(model, batches, steps):
    """A step on each of the batches. Returns the four losses before each step."""
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.LR, eps=1e-7)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: plan.rate(t, steps))
    history = []
    for x in batches:
        x = {name: torch.as_tensor(x[name], device=device) for name in x}
        four = losses(model, model(x["images"]), x)
        optimizer.zero_grad()
        four.sum().backward()
        optimizer.step()
        schedule.step()
        history.append(four.detach())
    return torch.stack(history)
