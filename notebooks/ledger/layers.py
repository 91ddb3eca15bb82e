"""Rows of the ledger: layers, their weights' order, their padding, and their small numbers."""

import math
import warnings
from functools import partial

import numpy as np
import torch
from keras import layers
from torch import Tensor, nn
from torch.nn import functional as F

from . import entry
from .yardstick import draw, drawn, gap, nchw, nhwc, put, refusal, values

row = partial(entry, "Layers", unit="outputs", chapter="12_weights")

# Dense and convolutions: which axis is which.


@row(
    "Dense, the kernel's axes",
    keras="kernel is (in, out)",
    torch="weight is (out, in)",
    mend="weight = kernel.T",
    chapter="01_concepts",
)
def dense_kernel():
    dense, linear = drawn(layers.Dense(4), (None, 6)), nn.Linear(6, 4)
    (kernel, bias), x = values(dense), draw(8, 6)
    before = refusal(lambda: put(linear, weight=kernel, bias=bias))
    return before, gap(dense(x), put(linear, weight=kernel.T, bias=bias)(x))


@row(
    "Dense, a square kernel",
    keras="kernel is (in, out)",
    torch="weight is (out, in): a copy fits without .T, too",
    mend="weight = kernel.T",
    chapter="01_concepts",
)
def dense_square_kernel():
    dense, linear = drawn(layers.Dense(6), (None, 6)), nn.Linear(6, 6)
    (kernel, bias), x = values(dense), draw(8, 6)
    before = gap(dense(x), put(linear, weight=kernel, bias=bias)(x))
    return before, gap(dense(x), put(linear, weight=kernel.T, bias=bias)(x))


@row(
    "Conv2D, the picture's axes",
    keras="(N, height, width, channels)",
    torch="(N, channels, height, width)",
    mend="x.permute(0, 3, 1, 2)",
    unit="outputs for 8 channels of 8 × 8 pixels",
    chapter="08_convolution",
)
def conv_picture():
    conv, twin = drawn(layers.Conv2D(4, 3), (None, 8, 8, 8)), nn.Conv2d(8, 4, 3)
    (kernel, bias), x = values(conv), draw(2, 8, 8, 8)
    put(twin, weight=kernel.permute(3, 2, 0, 1), bias=bias)
    return gap(conv(x), nhwc(twin(x))), gap(conv(x), nhwc(twin(nchw(x))))


@row(
    "Conv2D, the kernel's axes",
    keras="(height, width, in, out)",
    torch="(out, in, height, width)",
    mend="kernel.permute(3, 2, 0, 1)",
    unit="outputs, 3 × 3 from 3 to 3 channels",
    chapter="08_convolution",
)
def conv_kernel():
    conv, twin = drawn(layers.Conv2D(3, 3), (None, 8, 8, 3)), nn.Conv2d(3, 3, 3)
    (kernel, bias), x = values(conv), draw(2, 8, 8, 3)
    before = gap(conv(x), nhwc(put(twin, weight=kernel, bias=bias)(nchw(x))))
    put(twin, weight=kernel.permute(3, 2, 0, 1))
    return before, gap(conv(x), nhwc(twin(nchw(x))))


@row(
    "Conv2D(groups=3), the kernel's axes",
    keras="(height, width, in / groups, out)",
    torch="(out, in / groups, height, width)",
    mend="kernel.permute(3, 2, 0, 1)",
    unit="outputs, 3 × 3 from 9 to 3 channels",
)
def conv_groups():
    conv = drawn(layers.Conv2D(3, 3, groups=3), (None, 8, 8, 9))
    twin, (kernel, bias), x = nn.Conv2d(9, 3, 3, groups=3), values(conv), draw(2, 8, 8, 9)
    before = gap(conv(x), nhwc(put(twin, weight=kernel, bias=bias)(nchw(x))))
    put(twin, weight=kernel.permute(3, 2, 0, 1))
    return before, gap(conv(x), nhwc(twin(nchw(x))))


# Padding.


def conv_twins(size: int, **settings) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keras' outputs for random pictures; the same pictures, kernel and bias in PyTorch's order."""
    conv, x = drawn(layers.Conv2D(3, **settings), (None, size, size, 2)), draw(2, size, size, 2)
    kernel, bias = values(conv)
    return nchw(conv(x)), nchw(x), kernel.permute(3, 2, 0, 1), bias


@row(
    "Conv2D, padding",
    keras='padding="valid": none',
    torch="padding=0",
    mend="nothing to do",
    chapter="08_convolution",
)
def conv_no_padding():
    ours, x, kernel, bias = conv_twins(9, kernel_size=3)
    apart = gap(ours, F.conv2d(x, kernel, bias))
    return apart, apart


@row(
    'Conv2D(padding="same"), kernel 4',
    keras="one more at the right and below",
    torch='padding="same": the same, and warns of a copy',
    mend="nothing to do",
    chapter="13_defaults",
)
def conv_same_even_kernel():
    ours, x, kernel, bias = conv_twins(9, kernel_size=4, padding="same")
    with warnings.catch_warnings(action="ignore"):
        apart = gap(ours, F.conv2d(x, kernel, bias, padding="same"))
    return apart, apart


@row(
    'Conv2D(strides=2, padding="same"), as spelt',
    keras="pads",
    torch='padding="same" is refused where stride=2',
    mend="padding=k // 2 for an odd side, F.pad for an even one",
    unit="outputs, odd side, kernel 3",
    chapter="08_convolution",
)
def conv_same_strided_refused():
    before = refusal(lambda: nn.Conv2d(2, 3, 3, stride=2, padding="same"))
    ours, x, kernel, bias = conv_twins(9, kernel_size=3, strides=2, padding="same")
    return before, gap(ours, F.conv2d(x, kernel, bias, stride=2, padding=1))


@row(
    'Conv2D(3, strides=2, padding="same"), even side',
    keras="pads the right and below by 1, nothing else",
    torch="padding=1 pads all four sides",
    mend="F.pad(x, (0, 1, 0, 1)), padding=0",
    chapter="08_convolution",
)
def conv_same_strided_3():
    ours, x, kernel, bias = conv_twins(8, kernel_size=3, strides=2, padding="same")
    before = gap(ours, F.conv2d(x, kernel, bias, stride=2, padding=1))
    return before, gap(ours, F.conv2d(F.pad(x, (0, 1, 0, 1)), kernel, bias, stride=2))


@row(
    'Conv2D(5, strides=2, padding="same"), even side',
    keras="pads the left and above by 1, the right and below by 2",
    torch="padding=2 pads all four sides by 2",
    mend="F.pad(x, (1, 2, 1, 2)), padding=0",
    chapter="08_convolution",
)
def conv_same_strided_5():
    ours, x, kernel, bias = conv_twins(8, kernel_size=5, strides=2, padding="same")
    before = gap(ours, F.conv2d(x, kernel, bias, stride=2, padding=2))
    return before, gap(ours, F.conv2d(F.pad(x, (1, 2, 1, 2)), kernel, bias, stride=2))


@row(
    'Conv1D(padding="causal")',
    keras="pads the past alone",
    torch='no such padding: padding="same" sees the future',
    mend="padding=k - 1, then [..., :T]",
    chapter="13_defaults",
)
def conv_causal():
    conv, x = drawn(layers.Conv1D(4, 3, padding="causal"), (None, 10, 2)), draw(2, 10, 2)
    kernel, bias = values(conv)
    ours, kernel, x = conv(x).mT, kernel.permute(2, 1, 0), x.mT
    before = gap(ours, F.conv1d(x, kernel, bias, padding="same"))
    return before, gap(ours, F.conv1d(x, kernel, bias, padding=2)[..., :10])


# Other convolutions.


@row(
    "Conv2DTranspose, the kernel's axes",
    keras="(height, width, out, in)",
    torch="(in, out, height, width)",
    mend="kernel.permute(3, 2, 0, 1)",
    unit="outputs, 3 × 3 from 3 to 3 channels",
)
def transpose_kernel():
    conv = drawn(layers.Conv2DTranspose(3, 3), (None, 5, 5, 3))
    twin, (kernel, bias), x = nn.ConvTranspose2d(3, 3, 3), values(conv), draw(2, 5, 5, 3)
    before = gap(conv(x), nhwc(put(twin, weight=kernel, bias=bias)(nchw(x))))
    put(twin, weight=kernel.permute(3, 2, 0, 1))
    return before, gap(conv(x), nhwc(twin(nchw(x))))


def transposed(size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `conv_twins`, for a transposed convolution that doubles the sides."""
    conv = layers.Conv2DTranspose(3, size, strides=2, padding="same")
    (kernel, bias), x = values(drawn(conv, (None, 5, 5, 2))), draw(2, 5, 5, 2)
    return nchw(conv(x)), nchw(x), kernel.permute(3, 2, 0, 1), bias


@row(
    'Conv2DTranspose(3, strides=2, padding="same")',
    keras="crops the right and below by 1",
    torch="padding=1, output_padding=1 crops the left and above",
    mend="padding=0, then [..., :-1, :-1]",
)
def transpose_3():
    ours, x, kernel, bias = transposed(3)
    centred = F.conv_transpose2d(x, kernel, bias, stride=2, padding=1, output_padding=1)
    whole = F.conv_transpose2d(x, kernel, bias, stride=2)
    return gap(ours, centred), gap(ours, whole[..., :-1, :-1])


@row(
    'Conv2DTranspose(4, strides=2, padding="same")',
    keras="crops each side by 1",
    torch="padding=1",
    mend="nothing to do",
)
def transpose_4():
    ours, x, kernel, bias = transposed(4)
    apart = gap(ours, F.conv_transpose2d(x, kernel, bias, stride=2, padding=1))
    return apart, apart


@row(
    'Conv2DTranspose(5, strides=2, padding="same")',
    keras="crops the left and above by 1, the right and below by 2",
    torch="padding=2, output_padding=1 crops 2 and 1",
    mend="padding=0, then [..., 1:-2, 1:-2]",
)
def transpose_5():
    ours, x, kernel, bias = transposed(5)
    centred = F.conv_transpose2d(x, kernel, bias, stride=2, padding=2, output_padding=1)
    whole = F.conv_transpose2d(x, kernel, bias, stride=2)
    return gap(ours, centred), gap(ours, whole[..., 1:-2, 1:-2])


def depthwise(kernel: Tensor) -> Tensor:
    """Keras' depthwise kernel (height, width, C, M) as PyTorch's (C · M, 1, height, width)."""
    return kernel.permute(2, 3, 0, 1).flatten(0, 1)[:, None]


@row(
    "DepthwiseConv2D(depth_multiplier=2)",
    keras="kernel is (height, width, C, 2)",
    torch="groups=C, weight is (2 C, 1, height, width)",
    mend="kernel.permute(2, 3, 0, 1).flatten(0, 1)[:, None]",
    unit="outputs; before: copied by permute(3, 2, 0, 1)",
)
def depthwise_kernel():
    conv, x = layers.DepthwiseConv2D(3, depth_multiplier=2), draw(2, 8, 8, 3)
    kernel, bias = values(drawn(conv, (None, 8, 8, 3)))
    as_conv = kernel.permute(3, 2, 0, 1).reshape(6, 1, 3, 3)
    before = gap(conv(x), nhwc(F.conv2d(nchw(x), as_conv, bias, groups=3)))
    return before, gap(conv(x), nhwc(F.conv2d(nchw(x), depthwise(kernel), bias, groups=3)))


@row(
    "SeparableConv2D",
    keras="one layer, one bias",
    torch="no nn.SeparableConv2d",
    mend="Conv2d(C, C, k, groups=C, bias=False), Conv2d(C, out, 1)",
)
def separable():
    before = refusal(lambda: nn.SeparableConv2d)
    conv, x = drawn(layers.SeparableConv2D(4, 3), (None, 8, 8, 3)), draw(2, 8, 8, 3)
    deep, point, bias = values(conv)
    hidden = F.conv2d(nchw(x), depthwise(deep), groups=3)
    return before, gap(conv(x), nhwc(F.conv2d(hidden, point.permute(3, 2, 0, 1), bias)))


# Flatten.


@row(
    "Flatten, then Dense",
    keras="rows in the order (height, width, channels)",
    torch="columns in the order (channels, height, width)",
    mend="kernel.reshape(H, W, C, -1).permute(2, 0, 1, 3).flatten(0, 2).T",
    unit="outputs; before: kernel.T, which is right after x.permute(0, 2, 3, 1)",
    chapter="08_convolution",
)
def flatten_dense():
    x, dense, linear = draw(2, 4, 4, 3), drawn(layers.Dense(5), (None, 48)), nn.Linear(48, 5)
    ours, (kernel, bias) = dense(layers.Flatten()(x)), values(dense)
    before = gap(ours, put(linear, weight=kernel.T, bias=bias)(nchw(x).flatten(1)))
    turned = gap(ours, linear(nhwc(nchw(x)).flatten(1)))
    put(linear, weight=kernel.reshape(4, 4, 3, 5).permute(2, 0, 1, 3).flatten(0, 2).T)
    return before, max(turned, gap(ours, linear(nchw(x).flatten(1))))


@row(
    'Flatten(data_format="channels_first")',
    keras="turns (C, H, W) to (H, W, C) first",
    torch="flattens what it is given",
    mend="layers.Flatten(), or layers.Reshape((-1,))",
    unit="outputs for the same picture (N, C, H, W)",
    chapter="13_defaults",
)
def flatten_channels_first():
    x, theirs = draw(2, 3, 4, 4), nn.Flatten()
    before = gap(layers.Flatten(data_format="channels_first")(x), theirs(x))
    return before, max(gap(f(x), theirs(x)) for f in (layers.Flatten(), layers.Reshape((-1,))))


# Pooling.


@row(
    'MaxPooling2D(2, padding="same"), odd side',
    keras="pads the right and below",
    torch="padding=1 pads all four sides",
    mend="padding=0, ceil_mode=True",
    chapter="13_defaults",
)
def max_pool_2():
    x = draw(2, 7, 7, 3)
    ours = nchw(layers.MaxPooling2D(2, padding="same")(x))
    before = gap(ours, nn.MaxPool2d(2, padding=1)(nchw(x)))
    return before, gap(ours, nn.MaxPool2d(2, ceil_mode=True)(nchw(x)))


@row(
    'MaxPooling2D(3, 2, padding="same"), even side',
    keras="pads the right and below by 1, nothing else",
    torch="padding=1 pads all four sides",
    mend="padding=0, ceil_mode=True",
    chapter="13_defaults",
)
def max_pool_3():
    x = draw(2, 8, 8, 3)
    ours = nchw(layers.MaxPooling2D(3, 2, padding="same")(x))
    before = gap(ours, nn.MaxPool2d(3, 2, padding=1)(nchw(x)))
    return before, gap(ours, nn.MaxPool2d(3, 2, ceil_mode=True)(nchw(x)))


@row(
    'MaxPooling2D(5, 2, padding="same"), even side',
    keras="pads the left and above by 1, the right and below by 2",
    torch="padding=2 pads all four sides by 2",
    mend="F.pad(x, (1, 2, 1, 2), value=-math.inf), padding=0",
    chapter="13_defaults",
)
def max_pool_5():
    x = draw(2, 8, 8, 3) - 4  # negative: padding with zeros would show
    ours = nchw(layers.MaxPooling2D(5, 2, padding="same")(x))
    before = gap(ours, nn.MaxPool2d(5, 2, padding=2)(nchw(x)))
    padded = F.pad(nchw(x), (1, 2, 1, 2), value=-math.inf)
    return before, gap(ours, nn.MaxPool2d(5, 2)(padded))


@row(
    'AveragePooling2D(3, 1, padding="same")',
    keras="averages what is there",
    torch="counts the padding's zeros: count_include_pad=True",
    mend="padding=1, count_include_pad=False",
    chapter="13_defaults",
)
def average_pool():
    x = draw(2, 6, 6, 3)
    ours = nchw(layers.AveragePooling2D(3, 1, padding="same")(x))
    before = gap(ours, nn.AvgPool2d(3, 1, padding=1)(nchw(x)))
    return before, gap(ours, nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)(nchw(x)))


@row(
    'AveragePooling2D(3, 2, padding="same"), even side',
    keras="on PyTorch: repeats the last row and column",
    torch="averages what is there: ceil_mode=True",
    mend="PyTorch's nn.AvgPool2d(3, 2, ceil_mode=True)",
    unit="from NumPy's mean of what is there",
    chapter="13_defaults",
)
def average_pool_edge():
    x = draw(2, 8, 8, 3)
    windows = [
        [x[:, i : i + 3, j : j + 3].mean((1, 2)) for j in (0, 2, 4, 6)] for i in (0, 2, 4, 6)
    ]
    mean = np.array(windows).transpose(2, 0, 1, 3)
    ours = layers.AveragePooling2D(3, 2, padding="same")(x)
    assert gap(ours, nhwc(F.avg_pool2d(F.pad(nchw(x), (0, 1, 0, 1), mode="replicate"), 3, 2))) == 0
    before = gap(ours, mean)
    return before, gap(nhwc(nn.AvgPool2d(3, 2, ceil_mode=True)(nchw(x))), mean)


@row(
    "UpSampling2D, bilinear",
    keras="pixels are squares, not points",
    torch="align_corners=None: as False, the same",
    mend="nothing to do",
    chapter="13_defaults",
)
def upsampling():
    x = draw(2, 4, 4, 3)
    theirs = F.interpolate(nchw(x), scale_factor=2, mode="bilinear")
    apart = gap(layers.UpSampling2D(2, interpolation="bilinear")(x), nhwc(theirs))
    return apart, apart


# Normalisation.


@row(
    "BatchNormalization, epsilon",
    keras="epsilon=1e-3",
    torch="eps=1e-5",
    mend="epsilon=1e-5",
    unit="outputs in training, inputs of about 0.05",
    chapter="08_convolution",
)
def batchnorm_epsilon():
    x, theirs = 0.05 * draw(16, 3), nn.BatchNorm1d(3)
    before = gap(layers.BatchNormalization()(x, training=True), theirs(x))
    return before, gap(layers.BatchNormalization(epsilon=1e-5)(x, training=True), theirs(x))


def batchnorms(theirs: nn.Module, **settings) -> tuple[layers.Layer, nn.Module]:
    """Both layers after the same ten batches of eight."""
    ours = layers.BatchNormalization(**settings)
    for seed in range(10):
        x = 2 + 3 * draw(8, 3, seed=seed)
        ours(x, training=True), theirs(x)
    return ours, theirs


@row(
    "BatchNormalization, momentum",
    keras="momentum=0.99 is kept at each step",
    torch="momentum=0.1 is replaced",
    mend="momentum=0.9",
    unit="running mean after 10 batches around 2",
    chapter="08_convolution",
)
def batchnorm_momentum():
    def apart(**settings):
        ours, theirs = batchnorms(nn.BatchNorm1d(3), **settings)
        return gap(ours.moving_mean, theirs.running_mean)

    return apart(), apart(momentum=0.9)


class BiasedBatchNorm(nn.BatchNorm1d):
    """PyTorch's layer with Keras' running variance: divided by N, not by N - 1."""

    def forward(self, x: Tensor) -> Tensor:
        kept = (1 - self.momentum) * self.running_var
        y = super().forward(x)
        if self.training:
            self.running_var = kept + (self.running_var - kept) * (1 - 1 / len(x))
        return y


@row(
    "BatchNormalization, the running variance",
    keras="of N values, divided by N",
    torch="divided by N - 1",
    mend="a subclass that takes the batch's share times 1 - 1 / N",
    unit="running variance after 10 batches of 8, both keeping 0.9",
    chapter="08_convolution",
)
def batchnorm_variance():
    def apart(theirs):
        ours, theirs = batchnorms(theirs, momentum=0.9)
        return gap(ours.moving_variance, theirs.running_var)

    return apart(nn.BatchNorm1d(3)), apart(BiasedBatchNorm(3))


@row(
    "BatchNormalization, in inference",
    keras="epsilon=1e-3, momentum=0.99, / N",
    torch="eps=1e-5, momentum=0.1, / (N - 1)",
    mend="momentum=0.9, epsilon=1e-5, and a subclass that divides by N",
    unit="outputs in inference after 10 batches of 8",
    chapter="08_convolution",
)
def batchnorm_inference():
    def apart(theirs, **settings):
        (ours, theirs), x = batchnorms(theirs, **settings), 2 + 3 * draw(8, 3)
        return gap(ours(x, training=False), theirs.eval()(x))

    return apart(nn.BatchNorm1d(3)), apart(BiasedBatchNorm(3), momentum=0.9, epsilon=1e-5)


@row(
    "BatchNormalization, the axis",
    keras="axis=-1, the last",
    torch="the second",
    mend="axis=1",
    unit="outputs in training for the same (N, C, T)",
    chapter="13_defaults",
)
def batchnorm_axis():
    x, theirs = 5 * draw(4, 3, 6), nn.BatchNorm1d(3)
    before = gap(layers.BatchNormalization(epsilon=1e-5)(x, training=True), theirs(x))
    ours = layers.BatchNormalization(axis=1, epsilon=1e-5)
    return before, gap(ours(x, training=True), theirs(x))


@row(
    "BatchNormalization, frozen",
    keras="trainable = False infers, even with training=True",
    torch="requires_grad_(False) goes on normalising by the batch",
    mend="module.eval(), too",
    unit="outputs in training",
    chapter="08_convolution",
)
def batchnorm_frozen():
    ours, theirs = layers.BatchNormalization(epsilon=1e-5), nn.BatchNorm1d(3)
    ours.trainable, x = False, 2 + 3 * draw(8, 3)
    theirs.requires_grad_(False)
    before = gap(ours(x, training=True), nn.BatchNorm1d(3).requires_grad_(False)(x))
    return before, gap(ours(x, training=True), theirs.eval()(x))


@row(
    "BatchNormalization, a batch of one",
    keras="answers beta, whatever the example",
    torch="refuses, in training",
    mend="none: leave it out, drop_last=True",
    unit="outputs in training",
    chapter="13_defaults",
)
def batchnorm_of_one():
    ours, x = drawn(layers.BatchNormalization(), (None, 3)), draw(1, 3)
    assert gap(ours(x, training=True), ours.beta.value[None]) == 0
    return refusal(lambda: nn.BatchNorm1d(3)(x)), None


@row(
    "BatchNormalization, the variance of 16384 ± 1",
    keras="E[x²] - E[x]²: float32 finds 0",
    torch="E[(x - E[x])²]: 1",
    mend="bring the inputs to mean 0 first",
    unit="outputs in training, float32, same eps",
    chapter="13_defaults",
    bound=1e-6,  # float32: a few roundings of outputs near 1
    float32=True,
)
def batchnorm_cancellation():
    x = 16384 + torch.tensor([[1.0], [-1.0]]).repeat(4, 1)
    ours, theirs = layers.BatchNormalization(), nn.BatchNorm1d(1, eps=1e-3)
    return tuple(gap(ours(each, training=True), theirs(each)) for each in (x, x - x.mean(0)))


@row(
    "LayerNormalization, epsilon",
    keras="epsilon=1e-3",
    torch="eps=1e-5",
    mend="epsilon=1e-5",
    unit="outputs, inputs of about 0.05",
)
def layernorm_epsilon():
    x, theirs = 0.05 * draw(8, 6), nn.LayerNorm(6)
    before = gap(layers.LayerNormalization()(x), theirs(x))
    return before, gap(layers.LayerNormalization(epsilon=1e-5)(x), theirs(x))


@row(
    "GroupNormalization, epsilon",
    keras="epsilon=1e-3",
    torch="eps=1e-5",
    mend="epsilon=1e-5",
    unit="outputs, inputs of about 0.05",
)
def groupnorm_epsilon():
    x, theirs = 0.05 * draw(4, 5, 5, 8), nn.GroupNorm(4, 8)
    before = gap(layers.GroupNormalization(4)(x), nhwc(theirs(nchw(x))))
    return before, gap(layers.GroupNormalization(4, epsilon=1e-5)(x), nhwc(theirs(nchw(x))))


@row(
    "GroupNormalization, the number of groups",
    keras="groups=32",
    torch="num_groups has to be given",
    mend="groups=8, as num_groups=8",
    unit="outputs for 64 channels; before: 32 against 8 groups",
)
def groupnorm_groups():
    assert refusal(nn.GroupNorm) == "TypeError"
    x, theirs = draw(2, 3, 3, 64), nn.GroupNorm(8, 64, eps=1e-3)
    before = gap(layers.GroupNormalization()(x), nhwc(theirs(nchw(x))))
    return before, gap(layers.GroupNormalization(groups=8)(x), nhwc(theirs(nchw(x))))


@row(
    "RMSNormalization, epsilon",
    keras="epsilon=1e-6",
    torch="eps=None: the type's own, 2.2e-16 in float64",
    mend="eps=1e-6",
    unit="outputs, inputs of about 0.01",
    chapter="13_defaults",
)
def rmsnorm_epsilon():
    x = 0.01 * draw(8, 6)
    ours = layers.RMSNormalization()(x)
    return gap(ours, nn.RMSNorm(6)(x)), gap(ours, nn.RMSNorm(6, eps=1e-6)(x))


# Dropout.


@row(
    "Dropout, the rate",
    keras="rate has to be given",
    torch="p=0.5",
    mend="write it out in both",
    unit="outputs in inference",
    chapter="08_convolution",
)
def dropout_rate():
    x, theirs = draw(4, 5), nn.Dropout(p=0.5)
    before = refusal(layers.Dropout)
    return before, gap(layers.Dropout(rate=0.5)(x, training=False), theirs.eval()(x))


@row(
    "Dropout, the mask",
    keras="drawn by torch's generator, where no seed is given",
    torch="drawn by the same",
    mend="nothing to do",
    unit="outputs for ones, rate 0.5, one torch.manual_seed",
    chapter="08_convolution",
)
def dropout_mask():
    x, dropout = torch.ones(20, 30), layers.Dropout(0.5)
    torch.manual_seed(1)
    ours = dropout(x, training=True)
    torch.manual_seed(1)
    apart = gap(ours, nn.Dropout(0.5)(x))
    return apart, apart


@row(
    "Dropout(seed=1)",
    keras="has a generator of its own",
    torch="has no such argument",
    mend="leave seed out, torch.manual_seed(2) before each",
    unit="outputs for ones, rate 0.5, one global seed",
    chapter="07_dense",
)
def dropout_seed():
    def apart(**settings):
        x, dropout = torch.ones(20, 30), layers.Dropout(0.5, **settings)
        torch.manual_seed(2)
        ours = dropout(x, training=True)
        torch.manual_seed(2)
        return gap(ours, nn.Dropout(0.5)(x))

    return apart(seed=1), apart()


@row(
    "Dropout after a convolution",
    keras="the mask runs over (N, height, width, channels)",
    torch="over (N, channels, height, width), as the memory lies",
    mend="x.contiguous(memory_format=torch.channels_last)",
    unit="outputs for ones, rate 0.5, one seed",
    chapter="13_defaults",
)
def dropout_picture():
    x, theirs = torch.ones(2, 5, 5, 4), nn.Dropout(0.5)
    torch.manual_seed(1)
    ours = nchw(layers.Dropout(0.5)(x, training=True))
    torch.manual_seed(1)
    before = gap(ours, theirs(nchw(x).contiguous()))
    torch.manual_seed(1)
    return before, gap(ours, theirs(nchw(x).contiguous(memory_format=torch.channels_last)))


@row(
    "SpatialDropout2D, the mask",
    keras="drawn by a generator of its own, always",
    torch="Dropout2d: by torch's",
    mend="none: only the law is the same",
    unit="outputs for ones, rate 0.5, one global seed",
    chapter="13_defaults",
)
def spatial_dropout_mask():
    x = torch.ones(4, 5, 5, 16)
    torch.manual_seed(1)
    ours = layers.SpatialDropout2D(0.5)(x, training=True)
    torch.manual_seed(1)
    return gap(ours, nhwc(nn.Dropout2d(0.5)(nchw(x)))), None


# Embedding.


@row(
    "Embedding, the table's axes",
    keras="(tokens, units)",
    torch="(tokens, units)",
    mend="nothing to do",
)
def embedding_table():
    ours, tokens = drawn(layers.Embedding(10, 4), (None, 1)), torch.tensor([[3, 1], [9, 0]])
    apart = gap(ours(tokens), put(nn.Embedding(10, 4), weight=values(ours)[0])(tokens))
    return apart, apart


@row(
    "Embedding, the row of the padding",
    keras="mask_zero=True masks later layers; row 0 is like any other",
    torch="padding_idx=0: row 0 is zero and never learns",
    mend="write zeros into row 0, again after each step",
    unit="outputs for the token 0",
)
def embedding_padding():
    ours = drawn(layers.Embedding(10, 4, mask_zero=True), (None, 1))
    theirs, tokens = nn.Embedding(10, 4, padding_idx=0), torch.zeros(2, 1, dtype=torch.int64)
    before = gap(ours(tokens), theirs(tokens))
    with torch.no_grad():
        ours.embeddings.value[0] = 0
    return before, gap(ours(tokens), theirs(tokens))


# Recurrent layers.


@row(
    "LSTM, the axes of a sequence",
    keras="(N, time, features)",
    torch="batch_first=False: (time, N, features)",
    mend="batch_first=True",
    unit="outputs for the same (N, time, features)",
)
def lstm_axes():
    lstm, x = drawn(layers.LSTM(4, return_sequences=True), (None, 7, 5)), draw(3, 7, 5)
    return tuple(gap(lstm(x), as_torch(lstm, batch_first=first)(x)[0]) for first in (False, True))


def recurrent(module: nn.RNNBase, kernel, hidden, bias_ih, bias_hh, end="") -> nn.RNNBase:
    """Copy one direction's weights into a PyTorch layer. Kernels come as Keras keeps them."""
    names = [f"{name}_l0{end}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return put(module, **dict(zip(names, (kernel.T, hidden.T, bias_ih, bias_hh), strict=True)))


def as_torch(lstm: layers.LSTM, **settings) -> nn.LSTM:
    """The same LSTM in PyTorch, which adds up two biases: the second one is set to 0."""
    kernel, hidden, bias = values(lstm)
    module = nn.LSTM(len(kernel), lstm.units, **settings)
    return recurrent(module, kernel, hidden, bias, torch.zeros_like(bias))


@row(
    "LSTM, the kernels' axes",
    keras="(in, 4 units), (units, 4 units), gates i, f, c, o",
    torch="(4 units, in), (4 units, units), gates i, f, g, o: the same",
    mend="weight_ih_l0 = kernel.T, weight_hh_l0 = recurrent_kernel.T",
)
def lstm_kernels():
    lstm, x = drawn(layers.LSTM(4, return_sequences=True), (None, 7, 5)), draw(3, 7, 5)
    before = refusal(lambda: put(nn.LSTM(5, 4), weight_ih_l0=values(lstm)[0]))
    return before, gap(lstm(x), as_torch(lstm, batch_first=True)(x)[0])


@row(
    "LSTM, one bias or two",
    keras="one",
    torch="bias_ih_l0 + bias_hh_l0, both drawn at random",
    mend="bias_ih_l0 = bias, bias_hh_l0 = 0",
    unit="outputs; before: the second as drawn",
)
def lstm_biases():
    lstm, x = drawn(layers.LSTM(4, return_sequences=True), (None, 7, 5)), draw(3, 7, 5)
    kernel, hidden, bias = values(lstm)
    theirs = nn.LSTM(5, 4, batch_first=True)
    recurrent(theirs, kernel, hidden, bias, theirs.bias_hh_l0.detach().clone())
    return gap(lstm(x), theirs(x)[0]), gap(lstm(x), put(theirs, bias_hh_l0=0 * bias)(x)[0])


@row(
    "LSTM, a step of the bias",
    keras="one bias, one gradient",
    torch="two biases with the same gradient: their sum moves twice as far",
    mend="bias_hh_l0.requires_grad_(False)",
    unit="step of the bias, SGD with rate 1",
)
def lstm_step():
    lstm, x = drawn(layers.LSTM(4), (None, 7, 5)), draw(3, 7, 5)
    (ours,) = torch.autograd.grad(lstm(x).square().mean(), [lstm.cell.bias.value])

    def step(theirs):
        biases = [b for b in (theirs.bias_ih_l0, theirs.bias_hh_l0) if b.requires_grad]
        return sum(torch.autograd.grad(theirs(x)[0][:, -1].square().mean(), biases))

    theirs = as_torch(lstm, batch_first=True)
    before = gap(ours, step(theirs))
    theirs.bias_hh_l0.requires_grad_(False)
    return before, gap(ours, step(theirs))


@row(
    "LSTM, what it returns",
    keras="the last output: return_sequences=False",
    torch="all outputs, and a pair of states: nn.Sequential can't go on",
    mend="out, _ = lstm(x), then out[:, -1]",
)
def lstm_returns():
    lstm, x = drawn(layers.LSTM(4), (None, 7, 5)), draw(3, 7, 5)
    theirs = as_torch(lstm, batch_first=True)
    before = refusal(lambda: nn.Sequential(theirs, nn.Linear(4, 2))(x))
    return before, gap(lstm(x), theirs(x)[0][:, -1])


@row(
    "Bidirectional(LSTM), the last output",
    keras="both directions have read everything",
    torch="out[:, -1]: the backward one has read one step",
    mend="out, (h, c) = lstm(x), then torch.cat([h[0], h[1]], -1)",
)
def bidirectional_last():
    both, x = drawn(layers.Bidirectional(layers.LSTM(4)), (None, 7, 5)), draw(3, 7, 5)
    theirs = nn.LSTM(5, 4, batch_first=True, bidirectional=True)
    for end, (*kernels, bias) in (("", values(both)[:3]), ("_reverse", values(both)[3:])):
        recurrent(theirs, *kernels, bias, 0 * bias, end)
    out, (h, _) = theirs(x)
    return gap(both(x), out[:, -1]), gap(both(x), torch.cat([h[0], h[1]], -1))


def swap(gates: Tensor) -> Tensor:
    """A GRU's gates along the last axis, from Keras' order z, r, h to PyTorch's r, z, n."""
    z, r, h = gates.chunk(3, -1)
    return torch.cat([r, z, h], -1)


@row(
    "GRU, the gates' order",
    keras="z, r, h",
    torch="r, z, n",
    mend="swap the first two thirds of kernels and biases",
)
def gru_gates():
    gru, x = drawn(layers.GRU(4, return_sequences=True), (None, 7, 5)), draw(3, 7, 5)
    kernel, hidden, (bias, bias_hidden) = values(gru)
    weights, theirs = (kernel, hidden, bias, bias_hidden), nn.GRU(5, 4, batch_first=True)
    before = gap(gru(x), recurrent(theirs, *weights)(x)[0])
    return before, gap(gru(x), recurrent(theirs, *map(swap, weights))(x)[0])


@row(
    "GRU(reset_after=False)",
    keras="reset_after=True unless told: PyTorch's form",
    torch="has no other form",
    mend="leave reset_after=True, its second bias 0",
)
def gru_reset():
    gru, x = layers.GRU(4, reset_after=False), draw(3, 7, 5)
    kernel, hidden, bias = values(drawn(gru, (None, 7, 5)))
    weights = kernel, hidden, bias, 0 * bias
    theirs = recurrent(nn.GRU(5, 4, batch_first=True), *map(swap, weights))(x)[0][:, -1]
    other = drawn(layers.GRU(4), (None, 7, 5))
    other.set_weights([kernel, hidden, torch.stack([bias, 0 * bias])])
    return gap(gru(x), theirs), gap(other(x), theirs)


# Attention.


def attentions() -> tuple[layers.Layer, nn.MultiheadAttention, Tensor]:
    """Attention with 3 heads of 4, Keras' weights copied into PyTorch, and sequences of 5."""
    ours = drawn(layers.MultiHeadAttention(num_heads=3, key_dim=4), (2, 5, 12), (2, 5, 12))
    kernels = [kernel.reshape(12, 12).T for kernel in values(ours)[::2]]
    biases = [bias.flatten() for bias in values(ours)[1::2]]
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    put(theirs, in_proj_weight=torch.cat(kernels[:3]), in_proj_bias=torch.cat(biases[:3]))
    put(theirs.out_proj, weight=kernels[3], bias=biases[3])
    return ours, theirs, 0.3 * draw(2, 5, 12)


@row(
    "MultiHeadAttention, the kernels' axes",
    keras="three kernels (E, heads, key_dim), one (heads, key_dim, E)",
    torch="in_proj_weight (3 E, E), out_proj.weight (E, E)",
    mend="kernel.reshape(E, E).T, the first three by torch.cat",
    unit="outputs; before: without .T",
)
def attention_kernels():
    ours, theirs, x = attentions()
    after = gap(ours(x, x), theirs(x, x, x)[0])
    turned = torch.cat([third.T for third in theirs.in_proj_weight.chunk(3)])
    put(theirs, in_proj_weight=turned)
    put(theirs.out_proj, weight=theirs.out_proj.weight.T.clone())
    return gap(ours(x, x), theirs(x, x, x)[0]), after


@row(
    "MultiHeadAttention, the axes of a sequence",
    keras="(N, time, E)",
    torch="batch_first=False: (time, N, E)",
    mend="batch_first=True",
    unit="outputs for the same (N, time, E)",
)
def attention_axes():
    ours, theirs, x = attentions()
    after = gap(ours(x, x), theirs(x, x, x)[0])
    other = nn.MultiheadAttention(12, 3)
    other.load_state_dict(theirs.state_dict())
    return gap(ours(x, x), other(x, x, x)[0]), after


@row(
    "MultiHeadAttention, the mask",
    keras="attention_mask: True may be looked at",
    torch="attn_mask: True is blocked",
    mend="attn_mask=~mask",
)
def attention_mask():
    ours, theirs, x = attentions()
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[:, 3:] = False
    masked = ours(x, x, attention_mask=mask[None])
    return tuple(gap(masked, theirs(x, x, x, attn_mask=m)[0]) for m in (mask, ~mask))


@row(
    "MultiHeadAttention, the weights it shows",
    keras="one matrix for each head",
    torch="their mean: average_attn_weights=True",
    mend="average_attn_weights=False",
    unit="attention weights",
)
def attention_weights():
    ours, theirs, x = attentions()
    _, scores = ours(x, x, return_attention_scores=True)
    before = gap(scores, theirs(x, x, x)[1][:, None].expand(-1, 3, -1, -1))
    return before, gap(scores, theirs(x, x, x, average_attn_weights=False)[1])
