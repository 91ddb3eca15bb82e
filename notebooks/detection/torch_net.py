"""The network of chapter 22 in PyTorch: detector, four losses, answers, training."""

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

__all__ = [
    "Detector",
    "anchor_losses",
    "answers",
    "detect",
    "head_losses",
    "heads",
    "losses",
    "propose",
    "start",
    "train",
]


def start(layer):
    """Weights drawn so that a ReLU neither swells nor quenches what passes; biases of 0."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)


class Detector(nn.Module):
    """Pictures (b, h, w, 1) to features (b, h/4, w/4, 48), and anchors' scores and codes."""

    def __init__(self, read=roi_align):
        super().__init__()
        self.read = read
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, padding="same"),
            nn.ReLU(),
            nn.Conv2d(48, 48, 3, padding="same"),
            nn.ReLU(),
        )
        self.window = nn.Sequential(
            nn.Conv2d(48, 48, 3, padding="same"),
            nn.ReLU(),
        )
        self.objectness = nn.Conv2d(48, 6, 1)
        self.moves = nn.Conv2d(48, 6 * 4, 1)
        self.hidden = nn.Sequential(
            nn.Linear(parts.BINS**2 * 48, 128),
            nn.ReLU(),
        )
        self.classes = nn.Linear(128, 11)
        self.corrections = nn.Linear(128, 4)
        for layer in self.modules():
            start(layer)

    def forward(self, images):
        features = self.backbone(images.movedim(-1, 1))
        seen = self.window(features)
        scores = self.objectness(seen).movedim(1, -1)
        codes = self.moves(seen).movedim(1, -1)
        scores = scores.flatten(1)
        codes = codes.reshape(*scores.shape, 4)
        return features.movedim(1, -1), scores, codes


def propose(scores, codes, crowded=plan.CROWDED):
    """The most promising boxes (b, r, 4), and which of them are proposals at all."""
    if scores.shape[1] != len(parts.ANCHORS):
        raise ValueError(
            f"The anchors are those of {parts.SIDE} by {parts.SIDE} pixels: cut or pad."
        )
    scores, rows = torch.topk(scores, parts.CANDIDATES)
    anchors = constant(parts.ANCHORS, codes)
    anchors = anchors[rows]
    codes = take(codes, rows)
    boxes = clip(decode(codes, anchors))
    keep = nms(boxes, scores, crowded)
    scores = torch.where(keep, scores, -torch.inf)
    scores, rows = torch.topk(scores, parts.PROPOSALS)
    return take(boxes, rows), scores > -torch.inf


def heads(model, features, boxes):
    """For each box (b, r, 4): logits of ten digits and of none (b, r, 11), and a code (b, r, 4)."""
    regions = model.read(features, boxes)
    regions = regions.flatten(2)
    hidden = model.hidden(regions)
    return model.classes(hidden), model.corrections(hidden)


def average(values, use, among):
    """The sum of the values in use, divided by how many there are among which they were chosen."""
    total = torch.where(use, values, 0.0).sum()
    return total / among.sum()


def anchor_losses(scores, codes, x):
    """What the first stage gets wrong: is an anchor at an object, and where is that?"""
    anchors = constant(parts.ANCHORS, codes)
    luck = x["luck"][:, : len(anchors)]
    real = x["classes"][:, None] >= 0
    overlap = torch.where(real, iou(anchors, x["boxes"]), -1.0)
    kind, which = match(overlap, *plan.ANCHOR, rescue=True)
    rows, use = choose(kind, luck, *plan.LEARN_ANCHORS)
    found = use & (torch.take_along_dim(kind, rows, 1) == 1)
    own = torch.take_along_dim(which, rows, 1)
    anchors = anchors[rows]
    goal = encode(take(x["boxes"], own), anchors)
    scores = torch.take_along_dim(scores, rows, 1)
    error = F.binary_cross_entropy_with_logits(scores, found.to(scores), reduction="none")
    miss = smooth_l1(take(codes, rows) - goal)
    miss = miss.sum(-1)
    first = average(error, use, use)
    return first, average(miss, found, use)


def head_losses(model, features, proposals, able, x):
    """What the second stage gets wrong: which digit is in a proposal, and where exactly?"""
    luck = x["luck"][:, len(parts.ANCHORS) :]
    real = x["classes"][:, None] >= 0
    boxes = torch.cat([proposals, x["boxes"]], 1)
    able = torch.cat([able, real[:, 0]], 1)
    overlap = torch.where(real, iou(boxes, x["boxes"]), -1.0)
    kind, which = match(overlap, *plan.PROPOSAL)
    kind = torch.where(able, kind, -1)
    rows, use = choose(kind, luck, *plan.LEARN_PROPOSALS)
    found = use & (torch.take_along_dim(kind, rows, 1) == 1)
    own = torch.take_along_dim(which, rows, 1)
    boxes = take(boxes, rows)
    logits, codes = heads(model, features, boxes)
    label = torch.take_along_dim(x["classes"], own, 1)
    label = torch.where(found, label, 10)
    error = F.cross_entropy(logits.movedim(-1, 1), label, reduction="none")
    goal = encode(take(x["boxes"], own), boxes)
    miss = smooth_l1(codes - goal).sum(-1)
    first = average(error, use, use)
    return first, average(miss, found, use)


def losses(model, outputs, x):
    """The four numbers that training makes small, in the order of `plan.FOUR`."""
    features, scores, codes = outputs
    first = anchor_losses(scores, codes, x)
    scores = scores.detach()
    codes = codes.detach()
    held = propose(scores, codes)
    second = head_losses(model, features, *held, x)
    return torch.stack([*first, *second])


def answers(boxes, able, logits, codes, same=plan.SAME):
    """Boxes (b, r, 4), classes (b, r) and scores (b, r): 0 where another box says the same."""
    probs = torch.softmax(logits, -1)[..., :10]
    scores = probs.amax(-1)
    classes = probs.argmax(-1)
    scores = torch.where(able, scores, 0.0)
    boxes = clip(decode(codes, boxes))
    far = classes[..., None].to(boxes)
    far = boxes + 2 * parts.SIDE * far
    keep = nms(far, scores, same)
    return boxes, classes, torch.where(keep, scores, 0.0)


def detect(model, images):
    """Pictures to answers."""
    features, scores, codes = model(images)
    boxes, able = propose(scores, codes)
    logits, codes = heads(model, features, boxes)
    return answers(boxes, able, logits, codes)


def train(model, batches):
    """A step on each of the batches. Returns the four losses before each step (steps, 4)."""
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters())
    how, history = optimizer.param_groups[0], []
    for step, x in enumerate(batches):
        x = {name: torch.as_tensor(x[name], device=device) for name in x}
        how["lr"] = plan.LR * plan.rate(step, len(batches))
        how["eps"] = plan.epsilon(step)
        four = losses(model, model(x["images"]), x)
        optimizer.zero_grad()
        four.sum().backward()
        optimizer.step()
        history.append(four.detach())
    return torch.stack(history).cpu().numpy()
