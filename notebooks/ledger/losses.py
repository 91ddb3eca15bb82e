"""Rows of the ledger: losses, what they clip, what they divide by, what they take for labels."""

import warnings
from functools import partial

import keras
import torch
from keras import layers, losses
from torch import Tensor, nn
from torch.nn import functional as F

from . import entry
from .yardstick import draw, drawn, gap, put, refusal, values

row = partial(entry, "Losses", unit="loss", chapter="03_losses")

LABELS = torch.tensor([0, 1, 2, 0, 1, 0], device="cpu")
CLASS_WEIGHT = {0: 0.5, 1: 2.0, 2: 4.0}
SPARSE = losses.SparseCategoricalCrossentropy


def logits() -> Tensor:
    """Six examples with three classes; `LABELS` are their labels."""
    return 2 * draw(6, 3)


def one_hot() -> Tensor:
    """`LABELS` as rows of zeros and a one."""
    return F.one_hot(LABELS, 3).to(torch.get_default_dtype())


def slope(loss_fn, x: Tensor) -> Tensor:
    """The gradient of a loss with respect to its inputs."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss_fn(x), x)[0]


# Logits or probabilities.


@row(
    "Cross-entropy of logits",
    keras="from_logits=False: takes them for probabilities",
    torch="takes logits",
    mend="from_logits=True",
)
def cross_entropy_logits():
    theirs = nn.CrossEntropyLoss()(logits(), LABELS)
    return tuple(
        gap(each(LABELS, logits()), theirs) for each in (SPARSE(), SPARSE(from_logits=True))
    )


@row(
    "Cross-entropy of probabilities",
    keras="from_logits=False: takes them",
    torch="takes them for logits: softmax twice",
    mend="give it the logits",
)
def cross_entropy_probabilities():
    ours, theirs = SPARSE()(LABELS, logits().softmax(-1)), nn.CrossEntropyLoss()
    return gap(ours, theirs(logits().softmax(-1), LABELS)), gap(ours, theirs(logits(), LABELS))


@row(
    "Binary cross-entropy of logits",
    keras="from_logits=False: takes them for probabilities, clipped to 0 and 1",
    torch="BCEWithLogitsLoss takes them, BCELoss refuses them",
    mend="from_logits=True",
)
def binary_logits():
    x, y, ours = logits(), one_hot(), losses.BinaryCrossentropy
    assert refusal(lambda: nn.BCELoss()(x, y)) == "RuntimeError"
    theirs = nn.BCEWithLogitsLoss()(x, y)
    return gap(ours()(y, x), theirs), gap(ours(from_logits=True)(y, x), theirs)


@row(
    "Cross-entropy of log-probabilities",
    keras="from_logits=False: divides them by their negative sum, the order turns round",
    torch="NLLLoss takes log-probabilities",
    mend="from_logits=True: softmax changes nothing in them",
)
def log_probabilities():
    log_probs = logits().log_softmax(-1)
    theirs = nn.NLLLoss()(log_probs, LABELS)
    return tuple(
        gap(each(LABELS, log_probs), theirs) for each in (SPARSE(), SPARSE(from_logits=True))
    )


# Where they clip.

WRONG = [[40.0, 0.0]]  # sure, by 40, of the class 0; the label is 1


@row(
    "Cross-entropy of a sure mistake, the loss",
    keras="from probabilities: at most -log(1e-7), 16.1",
    torch="from logits: their difference, 40",
    mend="from_logits=True",
)
def clipped_loss():
    x, y = torch.tensor(WRONG), torch.tensor([1])
    theirs = nn.CrossEntropyLoss()(x, y)
    return gap(SPARSE()(y, x.softmax(-1)), theirs), gap(SPARSE(from_logits=True)(y, x), theirs)


@row(
    "Cross-entropy of a sure mistake, the gradient",
    keras="from probabilities: 0, the clip is flat",
    torch="from logits: 1",
    mend="from_logits=True",
    unit="gradient with respect to the logits",
)
def clipped_gradient():
    x, y = torch.tensor(WRONG), torch.tensor([1])
    theirs = slope(lambda x: nn.CrossEntropyLoss()(x, y), x)
    before = gap(slope(lambda x: SPARSE()(y, x.softmax(-1)), x), theirs)
    return before, gap(slope(lambda x: SPARSE(from_logits=True)(y, x), x), theirs)


@row(
    "Binary cross-entropy, p = 0 for the label 1",
    keras="clips p to 1e-7: 16.1",
    torch="BCELoss clips log p to -100",
    mend="logits: from_logits=True and BCEWithLogitsLoss",
    unit="loss; after: of the logit -40",
)
def binary_edge_of_ones():
    zero, one, x = torch.zeros(1, 1), torch.ones(1, 1), torch.full((1, 1), -40.0)
    before = gap(losses.BinaryCrossentropy()(one, zero), nn.BCELoss()(zero, one))
    ours = losses.BinaryCrossentropy(from_logits=True)(one, x)
    return before, gap(ours, nn.BCEWithLogitsLoss()(x, one))


@row(
    "Binary cross-entropy, p = 1 for the label 0",
    keras="clips p to 1 - 1e-7, in float32 1 - 2⁻²³: 15.9",
    torch="BCELoss clips log(1 - p) to -100",
    mend="logits: from_logits=True and BCEWithLogitsLoss",
    unit="loss in float32; after: of the logit 40",
    float32=True,
)
def binary_edge_of_zeros():
    zero, one, x = torch.zeros(1, 1), torch.ones(1, 1), torch.full((1, 1), 40.0)
    before = gap(losses.BinaryCrossentropy()(zero, one), nn.BCELoss()(one, zero))
    ours = losses.BinaryCrossentropy(from_logits=True)(zero, x)
    return before, gap(ours, nn.BCEWithLogitsLoss()(x, zero))


@row(
    "BCELoss of a sigmoid, its gradient",
    keras="from_logits=True: 1",
    torch="BCELoss: 0, since p rounds to 1 from logits of 17 on",
    mend="BCEWithLogitsLoss",
    unit="gradient with respect to the logit 20 in float32, label 0",
    bound=1e-6,  # float32: the sigmoid of 20 rounds to 1, and is 2e-9 away
    float32=True,
)
def binary_gradient():
    x, y = torch.full((1, 1), 20.0), torch.zeros(1, 1)
    ours = slope(lambda x: losses.BinaryCrossentropy(from_logits=True)(y, x), x)
    before = gap(ours, slope(lambda x: nn.BCELoss()(x.sigmoid(), y), x))
    return before, gap(ours, slope(lambda x: nn.BCEWithLogitsLoss()(x, y), x))


@row(
    "Cross-entropy by softmax, log, NLLLoss",
    keras="from_logits=True: log and softmax in one",
    torch="softmax(x).log(): the gradient overflows from a gap of 90 on",
    mend="log_softmax, or CrossEntropyLoss",
    unit="gradient with respect to logits that are 95 apart, float32",
    float32=True,
)
def log_of_softmax():
    x, y = torch.tensor([[95.0, 0.0]]), torch.tensor([1])
    ours = slope(lambda x: SPARSE(from_logits=True)(y, x), x)
    before = gap(ours, slope(lambda x: nn.NLLLoss()(x.softmax(-1).log(), y), x))
    return str(before), gap(ours, slope(lambda x: nn.NLLLoss()(x.log_softmax(-1), y), x))


@row(
    "BinaryFocalCrossentropy(from_logits=True)",
    keras="clips all the same: 16.1",
    torch="has none",
    mend="by hand in both: sigmoid(-x)**2 * softplus(-x), label 1",
    unit="loss of the logit -40, label 1; before: from the formula",
)
def focal_clip():
    x, one = torch.full((1, 1), -40.0), torch.ones(1, 1)
    theirs = (torch.sigmoid(-x) ** 2 * F.softplus(-x)).mean()
    by_hand = (keras.ops.sigmoid(-x) ** 2 * keras.ops.softplus(-x)).mean()
    return gap(losses.BinaryFocalCrossentropy(from_logits=True)(one, x), theirs), gap(
        by_hand, theirs
    )


# The same name.


def errors() -> tuple[Tensor, Tensor]:
    """Truths and predictions: six examples with three outputs, some errors small, some large."""
    return draw(6, 3, seed=1), 2 * draw(6, 3)


for name, theirs in {
    "MeanSquaredError": nn.MSELoss(),
    "MeanAbsoluteError": nn.L1Loss(),
    "Huber": nn.HuberLoss(),
}.items():

    @row(
        name,
        keras=f"{name}()",
        torch=f"{type(theirs).__name__}()",
        mend="nothing to do",
    )
    def same(name=name, theirs=theirs):
        y, x = errors()
        apart = gap(getattr(losses, name)()(y, x), theirs(x, y))
        return apart, apart


@row(
    "Huber(delta=2) and SmoothL1Loss(beta=2)",
    keras="delta * (size - delta / 2) far out",
    torch="divided by beta",
    mend="HuberLoss(delta=2), or 2 * SmoothL1Loss(beta=2)",
)
def smooth_l1():
    (y, x), smooth = errors(), nn.SmoothL1Loss(beta=2.0)
    ours = losses.Huber(delta=2.0)(y, x)
    mended = nn.HuberLoss(delta=2.0)(x, y), 2 * smooth(x, y)
    return gap(ours, smooth(x, y)), max(gap(ours, each) for each in mended)


@row(
    "Hinge",
    keras="max(0, 1 - y x)",
    torch="HingeEmbeddingLoss: x for y = 1, max(0, 1 - x) for y = -1",
    mend="F.relu(1 - y * x).mean()",
)
def hinge():
    y, x = errors()
    y = y.sign()
    ours = losses.Hinge()(y, x)
    return gap(ours, nn.HingeEmbeddingLoss()(x, y)), gap(ours, F.relu(1 - y * x).mean())


@row(
    "Hinge, labels 0 and 1",
    keras="makes -1 and 1 of them",
    torch="F.relu(1 - y * x) takes them as they are",
    mend="y = 2 * y - 1",
    chapter="13_defaults",
)
def hinge_labels():
    y, x = errors()
    y, x = (y > 0).to(y), x + 2
    ours = losses.Hinge()(y, x)
    return tuple(gap(ours, F.relu(1 - each * x).mean()) for each in (y, 2 * y - 1))


@row(
    "CosineSimilarity",
    keras="-1 for the same direction",
    torch="F.cosine_similarity: 1",
    mend="-F.cosine_similarity(x, y).mean()",
)
def cosine():
    y, x = errors()
    ours, theirs = losses.CosineSimilarity()(y, x), F.cosine_similarity(x, y).mean()
    return gap(ours, theirs), gap(ours, -theirs)


@row(
    "Poisson",
    keras="takes rates",
    torch="PoissonNLLLoss takes their logarithms: log_input=True",
    mend="log_input=False, eps=1e-7",
)
def poisson():
    y, x = (each.abs() for each in errors())
    ours, mended = losses.Poisson()(y, x), nn.PoissonNLLLoss(log_input=False, eps=1e-7)
    return gap(ours, nn.PoissonNLLLoss()(x, y)), gap(ours, mended(x, y))


@row(
    "Poisson, epsilon",
    keras="1e-7 in the logarithm",
    torch="eps=1e-8",
    mend="eps=1e-7",
    unit="loss of the rate 0 for the count 1",
)
def poisson_epsilon():
    y, x = torch.ones(1, 1), torch.zeros(1, 1)
    theirs = (nn.PoissonNLLLoss(log_input=False, **eps) for eps in ({}, {"eps": 1e-7}))
    return tuple(gap(losses.Poisson()(y, x), each(x, y)) for each in theirs)


def beliefs() -> tuple[Tensor, Tensor]:
    """Six distributions over three classes that are true, and six that are believed."""
    return draw(6, 3, seed=1).softmax(-1), logits().softmax(-1)


@row(
    "KLDivergence, its input",
    keras="probabilities",
    torch="KLDivLoss takes the logarithm of the second one",
    mend="KLDivLoss(...)(q.log(), p)",
)
def kl_input():
    (p, q), theirs = beliefs(), nn.KLDivLoss(reduction="batchmean")
    return tuple(gap(losses.KLDivergence()(p, q), theirs(each, p)) for each in (q, q.log()))


@row(
    "KLDivergence, a mean of what",
    keras="sum over classes, mean over examples",
    torch='reduction="mean" over both',
    mend='reduction="batchmean"',
)
def kl_reduction():
    p, q = beliefs()
    theirs = nn.KLDivLoss(), nn.KLDivLoss(reduction="batchmean")
    with warnings.catch_warnings(action="ignore"):  # PyTorch warns of its own default
        return tuple(gap(losses.KLDivergence()(p, q), each(q.log(), p)) for each in theirs)


# Labels.


@row(
    "Label smoothing",
    keras="CategoricalCrossentropy(label_smoothing=0.1)",
    torch="CrossEntropyLoss(label_smoothing=0.1)",
    mend="nothing to do",
)
def smoothing():
    ours = losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    theirs = nn.CrossEntropyLoss(label_smoothing=0.1)(logits(), LABELS)
    apart = gap(ours(one_hot(), logits()), theirs)
    return apart, apart


@row(
    "Label smoothing, integer labels",
    keras="SparseCategoricalCrossentropy has none",
    torch="CrossEntropyLoss(label_smoothing=0.1)",
    mend="CategoricalCrossentropy, one-hot labels",
)
def smoothing_of_integers():
    before = refusal(lambda: SPARSE(label_smoothing=0.1))
    return before, smoothing()[1]


@row(
    "Label smoothing, two classes",
    keras="BinaryCrossentropy(label_smoothing=0.1)",
    torch="BCEWithLogitsLoss has none",
    mend="y * 0.9 + 0.05",
)
def smoothing_of_two():
    before = refusal(lambda: nn.BCEWithLogitsLoss(label_smoothing=0.1))
    ours = losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
    theirs = nn.BCEWithLogitsLoss()(logits(), one_hot() * 0.9 + 0.05)
    return before, gap(ours(one_hot(), logits()), theirs)


MARKED = torch.tensor([0, 1, 2, -100, -100, 0], device="cpu")


@row(
    "The label -100",
    keras="costs 0, and counts in the mean",
    torch="is left out: ignore_index=-100",
    mend="ignore_class=-100",
)
def ignored_label():
    theirs = nn.CrossEntropyLoss()(logits(), MARKED)
    ours = SPARSE(from_logits=True), SPARSE(from_logits=True, ignore_class=-100)
    return tuple(gap(each(MARKED, logits()), theirs) for each in ours)


@row(
    "A batch of labels -100",
    keras="ignore_class=-100: 0",
    torch="0 / 0: nan",
    mend='reduction="sum", divided by max(1, (y != -100).sum())',
)
def all_ignored():
    x, y = logits(), torch.full((6,), -100)
    ours = SPARSE(from_logits=True, ignore_class=-100)(y, x)
    total = nn.CrossEntropyLoss(reduction="sum")(x, y)
    before = gap(ours, nn.CrossEntropyLoss()(x, y))
    return str(before), gap(ours, total / max(1, (y != -100).sum()))


@row(
    "The order of the arguments",
    keras="loss_fn(y, x)",
    torch="loss_fn(x, y)",
    mend="as each has it",
    unit="loss for one-hot labels; before: PyTorch's in Keras' order",
)
def argument_order():
    y, x = one_hot(), logits()
    ours, theirs = losses.CategoricalCrossentropy(from_logits=True)(y, x), nn.CrossEntropyLoss()
    return gap(ours, theirs(y, x)), gap(ours, theirs(x, y))


@row(
    "A column of predictions, a row of labels",
    keras="brings (N, 1) and (N,) together",
    torch="MSELoss compares each with each, and warns",
    mend="y[:, None]",
)
def column_and_row():
    y, x = draw(6, seed=1), draw(6, 1)
    ours, theirs = losses.MeanSquaredError()(y, x), nn.MSELoss()
    with warnings.catch_warnings(action="ignore"):
        before = gap(ours, theirs(x, y))
    return before, gap(ours, theirs(x, y[:, None]))


@row(
    "Cross-entropy of sequences",
    keras="classes last: (N, time, classes)",
    torch="classes second: (N, classes, time)",
    mend="CrossEntropyLoss()(x.mT, y)",
    unit="loss, 3 steps and 3 classes",
    chapter="13_defaults",
)
def sequences():
    x, y = 2 * draw(2, 3, 3), LABELS.reshape(2, 3)
    ours, theirs = SPARSE(from_logits=True)(y, x), nn.CrossEntropyLoss()
    return gap(ours, theirs(x, y)), gap(ours, theirs(x.mT, y))


# A mean of what.


@row(
    'reduction="sum"',
    keras="adds up the examples' means over outputs",
    torch="adds up all numbers",
    mend="times the number of outputs",
)
def reduction_sum():
    y, x = errors()
    ours = losses.MeanSquaredError(reduction="sum")(y, x)
    theirs = nn.MSELoss(reduction="sum")(x, y)
    return gap(ours, theirs), gap(3 * ours, theirs)


def class_weighted(reduction: str) -> float:
    """The loss that `fit` reports for `logits()` with class weights."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3, kernel_initializer="identity")])
    loss_fn = SPARSE(from_logits=True, reduction=reduction)
    model.compile(keras.optimizers.SGD(0.0), loss_fn)
    return model.train_on_batch(logits(), LABELS, class_weight=CLASS_WEIGHT)


@row(
    "Class weights",
    keras="class_weight: divided by the number of examples",
    torch="weight: divided by the weights' sum",
    mend='reduction="mean_with_sample_weight"',
)
def class_weights():
    theirs = nn.CrossEntropyLoss(torch.tensor([*CLASS_WEIGHT.values()]))(logits(), LABELS)
    ours = class_weighted("sum_over_batch_size"), class_weighted("mean_with_sample_weight")
    return tuple(gap(each, theirs) for each in ours)


@row(
    "Class weights, one-hot labels",
    keras='reduction="mean_with_sample_weight", the mend above: by the weights',
    torch="for one-hot labels: by the number of examples",
    mend='the default, reduction="sum_over_batch_size"',
)
def class_weights_one_hot():
    theirs = nn.CrossEntropyLoss(torch.tensor([*CLASS_WEIGHT.values()]))(logits(), one_hot())
    ours = class_weighted("mean_with_sample_weight"), class_weighted("sum_over_batch_size")
    return tuple(gap(each, theirs) for each in ours)


@row(
    "Weights of examples",
    keras="sample_weight: divided by the number of examples",
    torch="by hand, as a weighted mean: by the weights' sum",
    mend='reduction="mean_with_sample_weight"',
)
def sample_weights():
    weight, each = draw(6).abs(), nn.CrossEntropyLoss(reduction="none")(logits(), LABELS)
    theirs = (weight * each).sum() / weight.sum()
    ours = (
        SPARSE(from_logits=True, reduction=reduction)
        for reduction in ("sum_over_batch_size", "mean_with_sample_weight")
    )
    return tuple(gap(fn(LABELS, logits(), sample_weight=weight), theirs) for fn in ours)


@row(
    "L2 of 0.1",
    keras="kernel_regularizer=L2(0.1): 0.1 w², gradient 0.2 w",
    torch="weight_decay=0.1: gradient 0.1 w",
    mend="weight_decay=0.2",
    unit="kernel after a step of SGD with rate 1 and no other gradient",
    chapter="05_optimisers",
)
def l2():
    dense = layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.1))
    kernel, bias = values(drawn(dense, (None, 6)))
    (gradient,) = torch.autograd.grad(sum(dense.losses), kernel)

    def step(decay):
        linear = put(nn.Linear(6, 4), weight=kernel.T, bias=bias)
        linear.weight.grad = torch.zeros_like(linear.weight)
        torch.optim.SGD([linear.weight], lr=1, weight_decay=decay).step()
        return linear.weight.T

    return gap(kernel - gradient, step(0.1)), gap(kernel - gradient, step(0.2))
