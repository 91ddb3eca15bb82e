"""Chapter 22's two detectors are one: losses, gradients, training, answers, and NumPy agrees."""

import keras
import numpy as np
import pytest
import torch
from detection import keras_net, metric, parts, plan, scenes, torch_net
from test_detection_scenes import stamps

from helpers import parity

NETS = {"keras": keras_net, "torch": torch_net}
N = len(parts.ANCHORS)
CLOSE = 1e-10
"""A part of the largest: some 1,500 products in a row of sums, seven layers, and gradients back
through them, of 1.1e-16 each. What is found is 1e-13 at most."""


@pytest.fixture(autouse=True, scope="module")
def exact():
    with parity.float64():
        yield


@pytest.fixture(scope="module")
def made():
    """Scenes of one digit and of five first, then what comes."""
    made = scenes.make(5, 40, *stamps())
    count = (made[2] >= 0).sum(1)
    first = [count.argmin(), count.argmax()]
    assert count[first].tolist() == [1, scenes.MOST]
    rows = first + [i for i in range(40) if i not in first]
    return tuple(part[rows] for part in made)


@pytest.fixture(scope="module", params=range(3))
def twins(request):
    """The same detector in both, with random biases, too."""
    keras.utils.set_random_seed(request.param)
    models = {name: net.Detector() for name, net in NETS.items()}
    for weight in models["keras"].weights:
        if len(weight.shape) == 1:
            weight.assign(torch.randn(weight.shape) / 10)
    parity.copy_weights(models["keras"], models["torch"])
    return models


def batch(made, rows, seed=0):
    found = scenes.batch(made, rows, np.random.default_rng(seed), "float64")
    return {name: torch.tensor(x) for name, x in found.items()}


def lost(name, model, x):
    return NETS[name].losses(model, model(x["images"]), x)


def near(found, wanted, bound=CLOSE):
    found, wanted = (torch.as_tensor(x).detach().double() for x in (found, wanted))
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= bound * wanted.abs().max()


# ---- the two are one ----


def test_losses_and_every_gradient_of_each_are_equal(twins, made):
    x = batch(made, range(3))
    four = {name: lost(name, twins[name], x) for name in NETS}
    assert four["torch"].shape == (len(plan.FOUR),) and (four["torch"] > 0).all()
    near(four["keras"], four["torch"])
    pairs = parity.pair(twins["keras"], twins["torch"])
    assert len(pairs) == 20  # ten layers: a kernel and a bias
    asked = 0
    for k in range(len(plan.FOUR)):
        ours = torch.autograd.grad(
            four["keras"][k],
            [p.variable.value for p in pairs],
            retain_graph=True,
            allow_unused=True,
        )
        theirs = torch.autograd.grad(
            four["torch"][k], [p.tensor for p in pairs], retain_graph=True, allow_unused=True
        )
        for p, a, b in zip(pairs, ours, theirs, strict=True):
            assert (a is None) == (b is None), p.name
            if a is not None:
                near(p.to_keras(b), a)
                asked += bool(a.abs().max() > 0)
    assert asked == 12 + 12 + 12 + 12  # each goes through the backbone's 8 and 4 of its own


def test_each_stage_learns_from_its_own_losses(twins, made):
    """No gradient of the second stage's losses flows through the proposals into the first."""
    for name in NETS:
        model = twins[name]
        four = lost(name, model, batch(made, range(2)))
        layers = model.objectness, model.moves, model.classes, model.corrections
        weights = [next(iter(layer.parameters())) for layer in layers]
        for k, loss in enumerate(four):
            found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
            touched = [g is not None and bool(g.abs().max() > 0) for g in found]
            assert touched == [i == k for i in range(4)]


def test_answers_are_equal(twins, made):
    images = batch(made, range(3))["images"]
    with torch.no_grad():
        ours, theirs = (NETS[name].detect(twins[name], images) for name in NETS)
    near(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1]) and torch.equal(ours[2] > 0, theirs[2] > 0)
    near(ours[2], theirs[2])
    boxes, classes, scores = theirs
    assert (
        boxes.shape == (3, parts.PROPOSALS, 4) and scores.shape == classes.shape == boxes.shape[:2]
    )
    assert boxes.min() >= 0 and boxes.max() <= parts.SIDE and (scores > 0).any()
    with torch.no_grad():
        again = torch_net.detect(twins["torch"], images[1:2])  # a batch doesn't matter
    near(again[0], boxes[1:2])
    near(again[2], scores[1:2])


@pytest.mark.parametrize("name", NETS)
def test_a_feature_sees_as_far_to_each_side(twins, name):
    """From the middle of its cell to the middles of pixels: 12.5; an anchor's score 16.5."""
    images = torch.rand((1, parts.SIDE, parts.SIDE, 1), dtype=torch.float64)
    y, x = 41, 58
    with torch.no_grad():
        before = twins[name](images)
        images[0, y, x] += 1
        after = twins[name](images)
    i = (np.arange(parts.SIDE // parts.STRIDE) + 0.5) * parts.STRIDE

    def seen(reach):
        return (np.abs(i - y - 0.5) <= reach)[:, None] & (np.abs(i - x - 0.5) <= reach)

    assert np.array_equal((before[0] != after[0]).any(-1)[0], seen(12.5))
    changed = (before[1] != after[1]).reshape(len(i), len(i), len(parts.SHAPES))
    moved = (before[2] != after[2]).reshape(len(i), len(i), len(parts.SHAPES), 4)
    for k in range(len(parts.SHAPES)):
        assert np.array_equal(changed[..., k], seen(16.5))
        assert all(np.array_equal(moved[..., k, j], seen(16.5)) for j in range(4))


@pytest.mark.parametrize("name", NETS)
def test_weights_are_drawn_as_large_as_a_relu_needs(name):
    """Their standard deviation is that of He et al., the root of 2 over a unit's inputs."""
    keras.utils.set_random_seed(3)
    ours = keras_net.Detector()
    pairs = parity.pair(ours, torch_net.Detector())
    assert sum(p.tensor.numel() for p in pairs) == ours.count_params()
    for p in pairs:
        value = p.variable.value if name == "keras" else p.to_keras(p.tensor)
        value = value.detach().numpy()
        if value.ndim == 1:
            assert not value.any()
        else:  # within five deviations of a deviation
            part = value.std() / (2 / np.prod(value.shape[:-1])) ** 0.5
            assert abs(part - 1) < 5 / (2 * value.size) ** 0.5, p.name


# ---- a third opinion: the parts in NumPy, picture by picture ----


def soft(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def huber(x):
    return np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5).sum()


def proposed(scores, codes):
    order = np.argsort(-scores)[: parts.CANDIDATES]
    boxes = parts.clip(parts.decode(codes[order], parts.ANCHORS[order]))
    return boxes[parts.nms(boxes, scores[order], plan.CROWDED)][: parts.PROPOSALS]


def through_heads(model, features, boxes):
    regions = np.stack([parts.roi_align(features, box) for box in boxes])
    w = {name: value.detach().numpy() for name, value in model.named_parameters()}
    hidden = regions.reshape(len(boxes), -1) @ w["hidden.0.weight"].T + w["hidden.0.bias"]
    hidden = np.maximum(hidden, 0)
    return tuple(hidden @ w[f"{k}.weight"].T + w[f"{k}.bias"] for k in ("classes", "corrections"))


def added(model, features, scores, codes, boxes, classes, luck):
    """What one picture adds to the four sums, and how many rows it learns from in both stages."""
    boxes, classes = boxes[classes >= 0], classes[classes >= 0]
    kind, which = parts.match(parts.iou(parts.ANCHORS, boxes), *plan.ANCHOR, rescue=True)
    rows, use = parts.choose(kind, luck[:N], *plan.LEARN_ANCHORS)
    rows = rows[use]
    at, count = rows[kind[rows] == 1], [len(rows)]
    p = 1 / (1 + np.exp(-scores[rows]))
    sums = [-np.log(np.where(kind[rows] == 1, p, 1 - p)).sum()]
    sums += [huber(codes[at] - parts.encode(boxes[which[at]], parts.ANCHORS[at]))]

    found = proposed(scores, codes)
    luck = np.concatenate([luck[N : N + len(found)], luck[N + parts.PROPOSALS :][: len(boxes)]])
    found = np.concatenate([found, boxes])
    kind, which = parts.match(parts.iou(found, boxes), *plan.PROPOSAL)
    rows, use = parts.choose(kind, luck, *plan.LEARN_PROPOSALS)
    rows = rows[use]
    hit = kind[rows] == 1
    logits, codes = through_heads(model, features, found[rows])
    label = np.where(hit, classes[which[rows]], 10)
    sums += [-np.log(soft(logits)[np.arange(len(rows)), label]).sum()]
    sums += [huber((codes - parts.encode(boxes[which[rows]], found[rows]))[hit])]
    return np.array(sums), np.array([*count * 2, *[len(rows)] * 2])


@pytest.mark.parametrize("few", [False, True])
def test_losses_are_those_of_the_parts(twins, made, few, monkeypatch):
    if few:  # so few that there are too many objects, in both stages
        monkeypatch.setattr(plan, "LEARN_ANCHORS", (16, 3))
        monkeypatch.setattr(plan, "LEARN_PROPOSALS", (9, 2))
    rows = [0, 1]
    x = batch(made, rows)
    model = twins["torch"]
    with torch.no_grad():
        features, scores, codes = (part.numpy() for part in model(x["images"]))
        four = lost("torch", model, x)
    each = [
        added(model, features[i], scores[i], codes[i], *(x[k][i].numpy() for k in WHAT))
        for i in rows
    ]
    sums, counts = np.sum(each, 0)
    near(four, sums / counts)


WHAT = "boxes", "classes", "luck"


def crowd(scores, codes):
    """Let the best anchors all say about the same."""
    best = np.argsort(-scores)[: parts.CANDIDATES]
    codes[best] = parts.encode(np.array([20, 20, 40, 50]), parts.ANCHORS[best]) + codes[best]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", range(4))
def test_proposals_and_answers_are_those_of_the_parts(name, seed):
    """Boxes crowd and many agree, so that both suppressions have something to do."""
    rng = np.random.default_rng(seed)
    scores, codes = rng.normal(0, 1, (2, N)), rng.normal(0, 0.5, (2, N, 4))
    crowd(scores[1], codes[1])
    boxes, able = NETS[name].propose(torch.tensor(scores), torch.tensor(codes))
    assert boxes.shape == (2, parts.PROPOSALS, 4) and able.shape == boxes.shape[:2]
    assert able[0].all() and not able[1].all()
    for i in range(2):
        wanted = proposed(scores[i], codes[i])
        assert able[i].tolist() == [k < len(wanted) for k in range(parts.PROPOSALS)]
        near(boxes[i][able[i]], wanted)
    logits, codes = rng.normal(0, 2, (2, 32, 11)), rng.normal(0, 0.5, (2, 32, 4))
    logits[..., rng.integers(0, 11, 3)] += 3
    able[0, 3:9] = False
    found, classes, kept = NETS[name].answers(
        boxes, able, torch.tensor(logits), torch.tensor(codes)
    )
    for i in range(2):
        probs = soft(logits[i])[:, :10]
        wanted = np.where(able[i], probs.max(1), 0)
        assert np.array_equal(classes[i], probs.argmax(1))
        own = parts.clip(parts.decode(codes[i], boxes[i].numpy()))
        near(found[i], own)
        for c in range(10):
            rows = np.flatnonzero((probs.argmax(1) == c) & able[i].numpy())
            stay = parts.nms(own[rows], wanted[rows], plan.SAME)
            wanted[rows[~stay]] = 0
        near(kept[i], wanted)


def test_gradients_are_slopes_while_the_proposals_stay(twins, made, monkeypatch):
    """Rounding of some 1e-15 over a step of 4e-7: 1e-8. A larger step would meet a ReLU's kink."""
    model, x = twins["torch"], batch(made, range(2))
    with torch.no_grad():
        fixed = torch_net.propose(*model(x["images"])[1:])
    monkeypatch.setattr(torch_net, "propose", lambda *_: fixed)
    weights = list(model.parameters())
    gradients = torch.autograd.grad(lost("torch", model, x).sum(), weights)
    largest = max(g.abs().max() for g in gradients)
    for weight, gradient in zip(weights, gradients, strict=True):
        place, ends = np.unravel_index(int(gradient.abs().argmax()), gradient.shape), []
        with torch.no_grad():
            value = weight[place].item()
            for step in (2e-7, -2e-7):
                weight[place] = value + step
                ends.append(lost("torch", model, x).sum().item())
            weight[place] = value
        assert abs((ends[0] - ends[1]) / 4e-7 - gradient[place]) < 1e-7 * largest


# ---- what must not matter, and what must ----


def test_rows_without_an_object_teach_nothing(twins, made):
    x = batch(made, range(3))
    none = x["classes"] < 0
    assert none.any()
    boxes = torch.where(none[..., None], torch.tensor([20.0, 20, 50, 60]), x["boxes"])
    model = twins["torch"]
    near(lost("torch", model, {**x, "boxes": boxes}), lost("torch", model, x), 0)


def test_the_order_of_pictures_does_not_matter_and_luck_does(twins, made):
    x, model = batch(made, range(3)), twins["torch"]
    first = lost("torch", model, x)
    near(lost("torch", model, {name: part[[2, 0, 1]] for name, part in x.items()}), first)
    lucky = lost("torch", model, {**x, "luck": x["luck"].flip(1)})
    assert ((lucky - first).abs() > 1e-6)[[0, 2]].all()  # there's no choice among few objects


@pytest.mark.parametrize("name", NETS)
def test_pictures_without_an_object_teach_that_there_is_none(twins, made, name):
    x = batch(made, range(2))
    x["classes"][:] = -1
    four = lost(name, twins[name], x)
    assert torch.isfinite(four).all() and (four[[0, 2]] > 0).all() and (four[[1, 3]] == 0).all()
    gradients = torch.autograd.grad(four.sum(), [*twins[name].parameters()], allow_unused=True)
    assert all(g is None or torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("side", [64, 128])
def test_a_picture_of_another_size_is_refused(twins, name, side):
    with pytest.raises(ValueError, match="The anchors are those of 96 by 96 pixels"):
        NETS[name].detect(twins[name], torch.zeros((1, side, side, 1)))


# ---- training ----


@pytest.mark.parametrize("steps", [1, 12])
def test_both_learn_the_same_from_the_same_batches(made, steps):
    """Twelve steps multiply rounding: what is found is 2e-14 of the largest weight at most."""
    keras.utils.set_random_seed(1)
    models = {name: net.Detector() for name, net in NETS.items()}
    parity.copy_weights(models["keras"], models["torch"])
    lessons = [
        scenes.batch(made, [i % 4, 4 + i % 3], np.random.default_rng(i), "float64")
        for i in range(steps)
    ]
    history = {name: net.train(models[name], lessons) for name, net in NETS.items()}
    assert history["torch"].shape == (steps, 4)
    near(history["keras"], history["torch"])
    for p in parity.pair(models["keras"], models["torch"]):
        near(p.to_keras(p.tensor), p.variable.value)
    assert steps == 1 or history["torch"][-3:].sum() < history["torch"][:3].sum()


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10, 300])
def test_the_rates_of_both_are_equal(steps):
    warm = int(plan.WARM * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        plan.LR / 25, steps - warm, warmup_target=plan.LR, warmup_steps=warm
    )
    rates = [plan.LR * plan.rate(t, steps) for t in range(steps + 1)]
    assert np.abs(rates - np.array([float(schedule(t)) for t in range(steps + 1)])).max() < 1e-17
    assert max(rates) == rates[warm] == plan.LR and abs(rates[-1]) < 1e-17
    assert rates[0] == (plan.LR / 25 if warm else plan.LR)


def test_batches_take_each_scene_once_before_any_twice(made):
    few = tuple(part[:12] for part in made)
    found = plan.batches(few, 5, seed=3)
    assert [len(x["images"]) for x in found] == [plan.BATCH] * 5
    assert {x["images"].dtype.name for x in found} == {"float32"}
    pictures = np.concatenate([x["images"][..., 0] for x in found])
    which = [int(np.abs(few[0] / 255 - p).max((1, 2)).argmin()) for p in pictures]
    assert sorted(which[:12]) == sorted(which[12:24]) == sorted(which[24:36]) == [*range(12)]
    assert which[:12] != which[12:24]
    again = plan.batches(few, 5, seed=3)
    for one, two in zip(found, again, strict=True):
        assert all(np.array_equal(one[name], two[name]) for name in one)
    assert len({x["luck"][0, 0] for x in found}) == 5


def test_what_a_net_says_of_the_truth_is_perfect(made):
    """Where the proposals are the objects and the heads say so, the metric says 1."""
    boxes, classes = torch.tensor(made[1][:6]), torch.tensor(made[2][:6])
    logits = torch.nn.functional.one_hot(torch.where(classes < 0, 10, classes), 11) * 9.0
    for net in NETS.values():
        found = net.answers(boxes, classes >= 0, logits, torch.zeros_like(boxes))
        said = [[part[i][found[2][i] > 0.05].numpy() for part in found] for i in range(6)]
        true = [(b[c >= 0], c[c >= 0]) for b, c in zip(made[1][:6], made[2][:6], strict=True)]
        assert metric.mean_average_precision(said, true, 0.95) == 1
