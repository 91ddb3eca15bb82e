"""Rows of the ledger: optimisers, schedules, clipping, decay, averages. Chapter 5 teaches them.

An optimiser sees nothing of a network but a stream of gradients. So both get the same stream, and
what is compared is the path that 20 parameters take.
"""

from functools import partial

import keras
import numpy as np
import torch
from keras.optimizers import schedules
from torch import nn
from torch.optim import lr_scheduler, swa_utils

from helpers import parity

from . import entry
from .yardstick import refusal

K, T = keras.optimizers, torch.optim
NOISE = np.random.default_rng(0).normal(size=(50, 20))
GRADIENTS = NOISE * np.geomspace(1e-3, 1, 20)  # large for some parameters, small for others
TINY = 1e-24  # an epsilon that can't be felt, wherever it stands
WAY = "path over 50 steps, part of the way"
RATE = "learning rate, part of the first"
row = partial(entry, "Optimisers", unit=WAY, chapter="05_optimisers")
plan = partial(entry, "Schedules", unit=RATE, chapter="05_optimisers")


# ------------------------------------------------------------------------------------ the tools


def keras_path(make, gradients=GRADIENTS, each=None, start=1.0):
    """All places of the parameters under Keras' optimiser `make()`. `each` may change it."""
    optimizer, w = make(), keras.Variable(keras.ops.full(gradients[0].shape, start))
    path = [keras.ops.convert_to_numpy(w).copy()]
    for t, gradient in enumerate(gradients):
        if each:
            each(optimizer, t)
        optimizer.apply([torch.tensor(gradient, dtype=w.value.dtype)], [w])
        path.append(keras.ops.convert_to_numpy(w).copy())
    return np.array(path, float)


def torch_path(make, gradients=GRADIENTS, each=None, start=1.0):
    """The same for PyTorch's optimiser `make([w])`."""
    w = nn.Parameter(torch.full(gradients[0].shape, start))
    optimizer, path = make([w]), [w.detach().cpu().numpy().copy()]
    for t, gradient in enumerate(gradients):
        if each:
            each(optimizer, t)
        w.grad = torch.tensor(gradient, dtype=w.dtype)
        optimizer.step()
        path.append(w.detach().cpu().numpy().copy())
    return np.array(path, float)


def apart(ours, theirs):
    """The largest difference of two paths, as a part of the largest distance travelled."""
    way = max(np.abs(path - path[0]).max() for path in (ours, theirs))
    return float(np.abs(ours - theirs).max() / way)


def compare(make_keras, make_torch, gradients=GRADIENTS, start=1.0):
    """How far apart the two paths are."""
    ours = keras_path(make_keras, gradients, start=start)
    return apart(ours, torch_path(make_torch, gradients, start=start))


class TorchRule(torch.optim.Optimizer):
    """Chapter 5's: any rule (w, g, s, lr) -> new w, where s is what it remembers of w."""

    def __init__(self, params, rule, lr=0.01, **settings):
        super().__init__(params, {"lr": lr})
        self.rule = partial(rule, **settings)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for w in group["params"]:
                w.copy_(self.rule(w, w.grad, self.state[w], group["lr"]))


# ------------------------------------------------------------------------------- learning rates

LEVEL = {  # settings that leave nothing but the learning rate
    "SGD": (T.SGD, {}, {}),
    "RMSprop": (T.RMSprop, {"epsilon": TINY}, {"alpha": 0.9, "eps": TINY}),
    "Adagrad": (T.Adagrad, {"epsilon": TINY}, {"initial_accumulator_value": 0.1, "eps": TINY}),
    "Adam": (T.Adam, {"epsilon": TINY}, {"eps": TINY}),
    "AdamW": (T.AdamW, {"epsilon": TINY, "weight_decay": 0.01}, {"eps": TINY}),
    "Adamax": (T.Adamax, {"epsilon": TINY}, {"eps": TINY}),
    "Nadam": (T.NAdam, {"epsilon": TINY}, {"eps": TINY, "momentum_decay": 1.0}),
    "Adadelta": (T.Adadelta, {"rho": 0.9, "epsilon": 1e-6}, {}),
    "Adafactor": (T.Adafactor, {}, {"eps": (1e-30, 1e-3)}),
}


def learning_rate(name, ours, theirs, mend="write it out in both", chapter="05_optimisers"):
    """Enter the row of one optimiser's learning rate."""

    @row(
        f"{name}, learning rate",
        keras=f"learning_rate={ours}",
        torch=f"lr={theirs}",
        mend=mend,
        chapter=chapter,
    )
    def rate():
        make, level_keras, level_torch = LEVEL[name]
        make_keras = partial(getattr(K, name), **level_keras)
        make_torch = partial(make, **level_torch)
        before = compare(make_keras, make_torch)
        return before, compare(partial(make_keras, 0.01), partial(make_torch, lr=0.01))


learning_rate("SGD", "0.01", "0.001")
learning_rate("RMSprop", "0.001", "0.01")
learning_rate("Adagrad", "0.001", "0.01")
learning_rate("Adam", "0.001", "0.001", mend="nothing to do")
learning_rate("AdamW", "0.001", "0.001", mend="nothing to do")
learning_rate("Adamax", "0.001", "0.002")
learning_rate("Nadam", "0.001", "0.002", chapter="13_defaults")
learning_rate("Adadelta", "0.001", "1.0")
learning_rate("Adafactor", "0.001", "0.01", chapter="13_defaults")


# ------------------------------------------------------------------------- the rules themselves


@row(
    "SGD, momentum, Nesterov",
    keras="momentum=0.0, nesterov=False",
    torch="momentum=0, nesterov=False",
    mend="nothing to do, while the learning rate stays",
)
def sgd():
    kinds = {}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}
    worst = max(
        compare(partial(K.SGD, 0.1, **kind), partial(T.SGD, lr=0.1, **kind)) for kind in kinds
    )
    return worst, worst


def momentum_inside(w, g, s, lr, beta=0.9, decay=0.0):
    s["v"] = beta * s.get("v", 0) - lr * g  # PyTorch's: beta v + g, the step lr v
    return w * (1 - lr * decay) + s["v"]


def keras_falling(optimizer, t):
    optimizer.learning_rate = 0.1 * 0.97**t


def torch_falling(optimizer, t):
    optimizer.param_groups[0]["lr"] = 0.1 * 0.97**t


@row(
    "SGD with momentum, a falling rate",
    keras="v = m*v - lr*g, w += v",
    torch="v = m*v + g, w -= lr*v",
    mend="a rule of one's own: chapter 5's TorchRule",
)
def momentum_under_a_schedule():
    ours = keras_path(partial(K.SGD, 0.1, momentum=0.9), each=keras_falling)
    theirs = torch_path(partial(T.SGD, lr=0.1, momentum=0.9), each=torch_falling)
    mended = torch_path(lambda p: TorchRule(p, momentum_inside), each=torch_falling)
    return apart(ours, theirs), apart(ours, mended)


def rmsprop(w, g, s, lr, rho=0.9, eps=1e-7):
    s["q"] = rho * s.get("q", 0) + (1 - rho) * g * g
    return w - lr * g / (s["q"] + eps) ** 0.5


@row(
    "RMSprop, what is kept of the mean square",
    keras="rho=0.9",
    torch="alpha=0.99",
    mend="alpha=0.9",
)
def rmsprop_rho():
    ours = partial(K.RMSprop, 0.01)
    kept, mended = (lambda p, rho=rho: TorchRule(p, rmsprop, rho=rho) for rho in (0.99, 0.9))
    return compare(ours, kept), compare(ours, mended)


@row(
    "RMSprop, epsilon",
    keras="epsilon=1e-7, inside the root",
    torch="eps=1e-8, outside",
    mend="a rule of one's own: chapter 5's TorchRule",
)
def rmsprop_epsilon():
    ours = partial(K.RMSprop, 0.01)
    before = compare(ours, partial(T.RMSprop, lr=0.01, alpha=0.9))
    return before, compare(ours, lambda p: TorchRule(p, rmsprop))


@row(
    "RMSprop, the same epsilon in both",
    keras="epsilon=1e-7, inside the root",
    torch="eps=1e-7, outside",
    mend="eps=1e-24 in both: its place no longer counts",
)
def rmsprop_place():
    both = [
        (partial(K.RMSprop, 0.01, epsilon=eps), partial(T.RMSprop, lr=0.01, alpha=0.9, eps=eps))
        for eps in (1e-7, TINY)
    ]
    return compare(*both[0]), compare(*both[1])


@row(
    "Adagrad, where the sum of squares starts",
    keras="initial_accumulator_value=0.1",
    torch="initial_accumulator_value=0",
    mend="initial_accumulator_value=0.1",
)
def adagrad_start():
    ours, theirs = partial(K.Adagrad, 0.1, epsilon=TINY), partial(T.Adagrad, lr=0.1, eps=TINY)
    return compare(ours, theirs), compare(ours, partial(theirs, initial_accumulator_value=0.1))


@row(
    "Adagrad, epsilon",
    keras="epsilon=1e-7, inside the root",
    torch="eps=1e-10, outside",
    mend="eps=1e-24 in both",
)
def adagrad_epsilon():
    ours, theirs = (
        partial(K.Adagrad, 0.1),
        partial(T.Adagrad, lr=0.1, initial_accumulator_value=0.1),
    )
    return compare(ours, theirs), compare(partial(ours, epsilon=TINY), partial(theirs, eps=TINY))


class KerasAdam(T.Adam):
    """Keras' Adam: it adds epsilon before the correction of the mean square."""

    def step(self, closure=None):
        for group in self.param_groups:
            t = float(self.state[group["params"][0]].get("step", 0)) + 1
            group["eps"] = 1e-7 / (1 - 0.999**t) ** 0.5  # what Keras' amounts to after it
        return super().step(closure)


EPS = "before step t: eps = 1e-7 / sqrt(1 - 0.999**t)"


@row("Adam, epsilon", keras="epsilon=1e-7, uncorrected", torch="eps=1e-8, corrected", mend=EPS)
def adam_epsilon():
    ours = partial(K.Adam, 0.01)
    return compare(ours, partial(T.Adam, lr=0.01)), compare(ours, partial(KerasAdam, lr=0.01))


@row(
    "Adam, the same epsilon in both",
    keras="epsilon=1e-7, uncorrected",
    torch="eps=1e-7, corrected",
    mend=EPS,
)
def adam_place():
    ours, theirs = partial(K.Adam, 0.01), partial(T.Adam, lr=0.01, eps=1e-7)
    return compare(ours, theirs), compare(ours, partial(KerasAdam, lr=0.01))


@row(
    "Adam, gradients a million times smaller",
    keras="epsilon=1e-7, uncorrected",
    torch="eps=1e-8, corrected",
    mend=EPS,
)
def adam_small_gradients():
    ours, small = partial(K.Adam, 0.01), 1e-6 * GRADIENTS
    before, after = (compare(ours, partial(make, lr=0.01), small) for make in (T.Adam, KerasAdam))
    return before, after


@row(
    "Adam, the correction, in float32",
    keras="0.999**t in float32",
    torch="0.999**t in float64",
    mend="nothing: in float64 they agree",
    unit="the first step, relative",
    float32=True,
)
def adam_correction():
    both = partial(K.Adam, 0.01, epsilon=TINY), partial(T.Adam, lr=0.01, eps=TINY)
    before = compare(*both, GRADIENTS[:1], start=0.0)  # from 1 the step itself would be rounded
    with parity.float64():
        return before, compare(*both, GRADIENTS[:1], start=0.0)


@row("AdamW, decay", keras="weight_decay=0.004", torch="weight_decay=0.01", mend="write it out")
def adamw_decay():
    ours, theirs = partial(K.AdamW, 0.01, epsilon=TINY), partial(T.AdamW, lr=0.01, eps=TINY)
    return compare(ours, theirs), compare(partial(ours, weight_decay=0.01), theirs)


@row(
    "Adam(weight_decay)",
    keras="decays in the step",
    torch="adds to the gradient",
    mend="torch.optim.AdamW",
)
def adam_decay():
    ours = partial(K.Adam, 0.01, weight_decay=0.1, epsilon=TINY)
    l2, decoupled = (
        partial(make, lr=0.01, weight_decay=0.1, eps=TINY) for make in (T.Adam, T.AdamW)
    )
    return compare(ours, l2), compare(ours, decoupled)


@row(
    "SGD(momentum, weight_decay)",
    keras="decays in the step",
    torch="adds to the gradient",
    mend="a rule of one's own: chapter 5's TorchRule",
)
def sgd_momentum_decay():
    ours = partial(K.SGD, 0.1, momentum=0.9, weight_decay=0.1)
    l2 = partial(T.SGD, lr=0.1, momentum=0.9, weight_decay=0.1)
    rule = partial(TorchRule, rule=momentum_inside, lr=0.1, decay=0.1)
    return compare(ours, l2), compare(ours, rule)


@row(
    "SGD(weight_decay)",
    keras="decays in the step",
    torch="adds to the gradient",
    mend="nothing to do: without momentum it is the same",
)
def sgd_decay():
    same = compare(partial(K.SGD, 0.1, weight_decay=0.1), partial(T.SGD, lr=0.1, weight_decay=0.1))
    return same, same


@row(
    "Adamax, epsilon",
    keras="epsilon=1e-7, after the maximum",
    torch="eps=1e-8, within it",
    mend="eps=1e-24 in both",
)
def adamax_epsilon():
    ours, theirs = partial(K.Adamax, 0.01), partial(T.Adamax, lr=0.01)
    return compare(ours, theirs), compare(partial(ours, epsilon=TINY), partial(theirs, eps=TINY))


@row(
    "Nadam, the momentum's schedule",
    keras="0.96**t",
    torch="0.96**(t * momentum_decay), momentum_decay=0.004",
    mend="momentum_decay=1",
    chapter="13_defaults",
)
def nadam_schedule():
    ours, theirs = partial(K.Nadam, 0.01, epsilon=1e-8), partial(T.NAdam, lr=0.01)
    return compare(ours, theirs), compare(ours, partial(theirs, momentum_decay=1.0))


@row(
    "Nadam, epsilon",
    keras="epsilon=1e-7",
    torch="eps=1e-8",
    mend="eps=1e-7",
    chapter="13_defaults",
)
def nadam_epsilon():
    ours, theirs = partial(K.Nadam, 0.01), partial(T.NAdam, lr=0.01, momentum_decay=1.0)
    return compare(ours, theirs), compare(ours, partial(theirs, eps=1e-7))


@row("Adadelta, what is kept", keras="rho=0.95", torch="rho=0.9", mend="rho=0.9")
def adadelta_rho():
    ours, theirs = partial(K.Adadelta, 1.0, epsilon=1e-6), partial(T.Adadelta, lr=1.0)
    return compare(ours, theirs), compare(partial(ours, rho=0.9), theirs)


@row("Adadelta, epsilon", keras="epsilon=1e-7", torch="eps=1e-6", mend="eps=1e-7")
def adadelta_epsilon():
    ours, theirs = partial(K.Adadelta, 1.0, rho=0.9), partial(T.Adadelta, lr=1.0)
    return compare(ours, theirs), compare(ours, partial(theirs, eps=1e-7))


def lion(w, g, s, lr, beta1=0.9, beta2=0.99):
    m = s.get("m", 0 * g)
    s["m"] = beta2 * m + (1 - beta2) * g
    return w - lr * torch.sign(beta1 * m + (1 - beta1) * g)


@row(
    "Lion",
    keras="beta_1=0.9, beta_2=0.99",
    torch="has none",
    mend="three lines: exercise 5 of chapter 5",
)
def lion_absent():
    after = compare(partial(K.Lion, 0.01), lambda p: TorchRule(p, lion, 0.01))
    return refusal(lambda: T.Lion), after


@row(
    "Adafactor, the least mean square",
    keras="epsilon_1=1e-30, added to each",
    torch="eps=(None, 1e-3): the type's own, 1e-7 in float32",
    mend="eps=(1e-30, 1e-3)",
    chapter="13_defaults",
)
def adafactor_epsilon():
    gradients = 1e-9 * NOISE.reshape(-1, 5, 4)  # squares below float64's eps, 2e-16
    ours, theirs = partial(K.Adafactor, 0.01), partial(T.Adafactor, lr=0.01)
    mended = partial(theirs, eps=(1e-30, 1e-3))
    return compare(ours, theirs, gradients), compare(ours, mended, gradients)


# --------------------------------------------------------- what stands between gradient and step


def keras_clipped(**limit):
    """The first gradient as two tensors, clipped: a step of length 1 from 0 by Keras."""
    tensors = torch.tensor(GRADIENTS[0]).split([15, 5])
    weights = [keras.Variable(0 * g) for g in tensors]
    K.SGD(1.0, **limit).apply(list(tensors), weights)
    return -torch.cat([w.value.detach() for w in weights])


def torch_clipped(clip, together=True):
    """The same by `clip`, a function of a list of parameters: all of them, or one by one."""
    weights = [nn.Parameter(g) for g in torch.tensor(GRADIENTS[0]).split([15, 5])]
    for w in weights:
        w.grad = w.detach().clone()
    for group in [weights] if together else [[w] for w in weights]:
        clip(group)
    return torch.cat([w.grad for w in weights])


def scale(weights, limit=0.1):
    """Clip by the norm: `clip_grad_norm_` divides by the norm + 1e-6, this by the norm."""
    grads = [w.grad for w in weights]
    factor = min(1.0, limit / nn.utils.get_total_norm(grads))
    for g in grads:
        g.mul_(factor)


def clip_norm(weights):
    nn.utils.clip_grad_norm_(weights, 0.1)


def farthest(ours, theirs):
    """The largest difference, as a part of the largest number."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


CLIPPED = "clipped gradient, relative"


@row(
    "clipnorm",
    keras="clipnorm: each tensor alone",
    torch="clip_grad_norm_: all together",
    mend="global_clipnorm; scale by get_total_norm",
    unit=CLIPPED,
)
def clipnorm():
    before = farthest(keras_clipped(clipnorm=0.1), torch_clipped(clip_norm))
    return before, farthest(keras_clipped(global_clipnorm=0.1), torch_clipped(scale))


@row(
    "clipnorm, tensor by tensor",
    keras="clipnorm: each tensor alone",
    torch="clip_grad_norm_: all together",
    mend="clip each tensor alone",
    unit=CLIPPED,
)
def clipnorm_alone():
    ours = keras_clipped(clipnorm=0.1)
    after = farthest(ours, torch_clipped(scale, together=False))
    return farthest(ours, torch_clipped(clip_norm)), after


@row(
    "global_clipnorm",
    keras="divides by the norm",
    torch="clip_grad_norm_: by the norm + 1e-6",
    mend="scale by get_total_norm",
    unit=CLIPPED,
)
def global_clipnorm():
    ours = keras_clipped(global_clipnorm=0.1)
    return farthest(ours, torch_clipped(clip_norm)), farthest(ours, torch_clipped(scale))


@row(
    "clipvalue",
    keras="clipvalue",
    torch="clip_grad_value_",
    mend="nothing to do",
    unit=CLIPPED,
)
def clipvalue():
    theirs = torch_clipped(lambda weights: nn.utils.clip_grad_value_(weights, 0.1))
    same = farthest(keras_clipped(clipvalue=0.1), theirs)
    return same, same


@row(
    "Gradient accumulation",
    keras="gradient_accumulation_steps: their mean",
    torch="backward without zero_grad: their sum",
    mend="loss / steps",
)
def accumulation():
    ours = keras_path(partial(K.SGD, 0.1, gradient_accumulation_steps=5))[::5]
    total = GRADIENTS.reshape(10, 5, 20).sum(axis=1)
    before, after = (torch_path(partial(T.SGD, lr=0.1), g) for g in (total, total / 5))
    return apart(ours, before), apart(ours, after)


# ------------------------------------------------------------------------- averages of the path


def keras_average(**settings):
    """What Keras puts in the place of the parameters when `fit` ends."""
    optimizer, w = K.SGD(0.1, use_ema=True, **settings), keras.Variable(np.ones(20))
    for gradient in GRADIENTS:
        optimizer.apply([torch.tensor(gradient)], [w])
    optimizer.finalize_variable_values([w])
    return w.value.detach()


def torch_average(average, start=1):
    """PyTorch's average of the same path, from its place `start` on, and the path's end."""
    model = nn.ParameterList([torch.ones(20)])
    averaged = swa_utils.AveragedModel(model, multi_avg_fn=average)
    for place in torch_path(partial(T.SGD, lr=0.1))[start:]:
        model[0].data = torch.tensor(place)
        averaged.update_parameters(model)
    return averaged.module[0].detach(), model[0].detach()


ema = swa_utils.get_ema_multi_avg_fn
AVERAGE = "averaged parameters, relative"


@row(
    "A moving average, its memory",
    keras="ema_momentum=0.99",
    torch="get_ema_multi_avg_fn(decay=0.999)",
    mend="get_ema_multi_avg_fn(0.99)",
    unit=AVERAGE,
)
def ema_momentum():
    ours = keras_average()
    return farthest(ours, torch_average(ema())[0]), farthest(ours, torch_average(ema(0.99))[0])


@row(
    "AveragedModel",
    keras="a moving average",
    torch="the plain mean",
    mend="multi_avg_fn=get_ema_multi_avg_fn(0.99)",
    unit=AVERAGE,
)
def averaged_model():
    ours = keras_average()
    return farthest(ours, torch_average(None)[0]), farthest(ours, torch_average(ema(0.99))[0])


@row(
    "A moving average, where it starts",
    keras="with the parameters after step 1",
    torch="where update_parameters is first called",
    mend="call it after each step, not before the first",
    unit=AVERAGE,
)
def ema_start():
    ours = keras_average()
    before, after = (torch_average(ema(0.99), start)[0] for start in (0, 1))
    return farthest(ours, before), farthest(ours, after)


@row(
    "The parameters at the end of fit",
    keras="use_ema: overwritten by their average",
    torch="untouched",
    mend="compare with AveragedModel",
    unit="parameters, relative",
)
def ema_overwrites():
    average, end = torch_average(ema(0.99))
    return farthest(keras_average(), end), farthest(keras_average(), average)


# ------------------------------------------------------------------------------------ schedules


def keras_rates(schedule):
    return np.array([float(schedule(t)) for t in range(70)])


def torch_rates(make):
    optimizer = T.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(70):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


def schedule_gap(ours, *theirs):
    """How far a Keras schedule is from each of PyTorch's: rates that start at 1."""
    rates = keras_rates(ours)
    return tuple(float(np.abs(rates - torch_rates(make)).max()) for make in theirs)


@plan(
    "ExponentialDecay",
    keras="decay_rate for decay_steps steps",
    torch="ExponentialLR: gamma at each call",
    mend="gamma=decay_rate ** (1 / decay_steps)",
)
def exponential():
    theirs = (partial(lr_scheduler.ExponentialLR, gamma=gamma) for gamma in (0.5, 0.5**0.1))
    return schedule_gap(schedules.ExponentialDecay(1.0, 10, 0.5), *theirs)


@plan(
    "PiecewiseConstantDecay",
    keras="changes after the step in boundaries",
    torch="MultiStepLR: at the step in milestones",
    mend="each milestone one later",
)
def piecewise():
    ours = schedules.PiecewiseConstantDecay([20, 40], [1.0, 0.1, 0.01])
    return schedule_gap(
        ours,
        partial(lr_scheduler.MultiStepLR, milestones=[20, 40]),
        partial(lr_scheduler.MultiStepLR, milestones=[21, 41]),
    )


@plan(
    "CosineDecay, after its end",
    keras="stays at alpha=0.0",
    torch="CosineAnnealingLR: rises again",
    mend="a LambdaLR that stays",
)
def cosine():
    stays = partial(
        lr_scheduler.LambdaLR, lr_lambda=lambda t: (1 + np.cos(np.pi * min(t, 35) / 35)) / 2
    )
    rises = partial(lr_scheduler.CosineAnnealingLR, T_max=35)
    return schedule_gap(schedules.CosineDecay(1.0, 35), rises, stays)


@plan("CosineDecayRestarts", keras="t_mul=2.0", torch="T_mult=1", mend="T_mult=2")
def restarts():
    theirs = partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=10)
    return schedule_gap(schedules.CosineDecayRestarts(1.0, 10), theirs, partial(theirs, T_mult=2))


@plan(
    "PolynomialDecay",
    keras="end_learning_rate=0.0001",
    torch="PolynomialLR: ends at 0",
    mend="end_learning_rate=0.0 in Keras",
)
def polynomial():
    theirs = partial(lr_scheduler.PolynomialLR, total_iters=40)
    return tuple(
        schedule_gap(schedules.PolynomialDecay(1.0, 40, **end), theirs)[0]
        for end in ({}, {"end_learning_rate": 0.0})
    )


def warm_cosine(t):
    return (t + 1) / 10 if t < 10 else (1 + np.cos(np.pi * (t - 10) / 60)) / 2


class WarmCosine(schedules.LearningRateSchedule):
    def __call__(self, step):
        return warm_cosine(int(step))


@plan(
    "CosineDecay with warm-up, its first step",
    keras="warmup_steps: at a rate of 0",
    torch="LambdaLR: as it is written",
    mend="one function for both, as in chapter 5",
)
def warm_up():
    theirs = partial(lr_scheduler.LambdaLR, lr_lambda=warm_cosine)
    ours = schedules.CosineDecay(0.0, 60, warmup_target=1.0, warmup_steps=10)
    return schedule_gap(ours, theirs)[0], schedule_gap(WarmCosine(), theirs)[0]


def plateau_gap(losses, ours, theirs, lr=1.0):
    """How far apart the rates are; `fit` would give each loss to Keras' callback as `val_loss`."""
    model, optimizer = keras.Sequential(), T.SGD([nn.Parameter(torch.zeros(1))], lr)
    model.compile(K.SGD(lr))
    keras_watcher = keras.callbacks.ReduceLROnPlateau(**ours)
    torch_watcher = lr_scheduler.ReduceLROnPlateau(optimizer, **theirs)
    keras_watcher.set_model(model)
    keras_watcher.on_train_begin()
    gaps = []
    for epoch, loss in enumerate(losses):
        keras_watcher.on_epoch_end(epoch, {"val_loss": loss})
        torch_watcher.step(loss)
        gaps.append(float(model.optimizer.learning_rate) - optimizer.param_groups[0]["lr"])
    return float(np.abs(gaps).max()) / lr


@plan(
    "ReduceLROnPlateau, patience",
    keras="patience=10: falls at the 10th epoch",
    torch="patience=10: at the 11th",
    mend="patience=9",
)
def plateau_patience():
    losses = [1.0] * 25
    return plateau_gap(losses, {}, {}), plateau_gap(losses, {}, {"patience": 9})


@plan(
    "ReduceLROnPlateau, what counts as better",
    keras="min_delta=0.0001, absolute",
    torch="threshold=0.0001, threshold_mode='rel'",
    mend="threshold_mode='abs'",
)
def plateau_threshold():
    losses = 0.1 - 2e-5 * np.arange(20)  # better each time by more than 1e-4 of 0.1
    ours, theirs = {"patience": 3}, {"patience": 2}
    before = plateau_gap(losses, ours, theirs)
    return before, plateau_gap(losses, ours, theirs | {"threshold_mode": "abs"})


@plan(
    "ReduceLROnPlateau, the least change",
    keras="falls to min_lr=0.0",
    torch="eps=1e-08: a smaller change isn't made",
    mend="eps=0",
)
def plateau_floor():
    ours, theirs, losses = {"patience": 1}, {"patience": 0}, [1.0] * 3
    before = plateau_gap(losses, ours, theirs, lr=1e-8)
    return before, plateau_gap(losses, ours, theirs | {"eps": 0}, lr=1e-8)
