"""Keras' own layers with fewer steps between them and PyTorch: same arguments, weights and files.

On this backend Keras pays for three things that the arithmetic doesn't need. In `channels_last`
each convolution and each pooling copies its input to channels_first, and pools there, slowly. A
bias, and each of the dozen operations that make up its BatchNormalization, is a pass over the whole
array. And each layer that is called costs 0.1 ms of Python. Here, picture data (N, height, width,
channels) is only *seen* as (N, channels, height, width), which is PyTorch's `channels_last` and
moves nothing; one function of PyTorch does the work of a layer; and `Sequential` runs its layers'
`call` in a row.

What a class can't do faster, it leaves to the class of Keras that it inherits from.
"""

import functools
import inspect
from typing import Any

import keras
import torch
import torch.nn.functional as F
from keras import layers
from torch import Tensor

__all__ = [
    "BatchNormalization",
    "Conv2D",
    "Dense",
    "MaxPooling2D",
    "Sequential",
    "lay_out",
]

register = keras.saving.register_keras_serializable("fast_keras")


def lay_out(model: keras.Model) -> None:
    """Lay the kernels of a model's 2-D convolutions as PyTorch's channels_last has them.

    Keras stores a kernel as (height, width, in, out) and shows it to PyTorch as (out, in, height,
    width). After this, what PyTorch is shown lies in its memory format `channels_last`. The
    values, the shapes and the files stay what they were.
    """
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            _lay_out(layer)


def _lay_out(layer: layers.Conv2D) -> None:
    """As above, for one layer, in place. LoRA's kernel is a sum and has no place of its own."""
    if not layer.lora_enabled:
        kernel = layer.kernel.value
        shown = kernel.data.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        kernel.data = shown.permute(2, 3, 1, 0)


@register
class Dense(layers.Dense):
    """Dense with the bias in the product: one pass instead of two."""

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if inputs.ndim != 2 or self.lora_enabled or self.bias is None:
            return super().call(inputs, training=training)
        outputs = torch.addmm(self.bias.value, inputs, self.kernel.value)
        return outputs if self.activation is None else self.activation(outputs)


@register
class Conv2D(layers.Conv2D):
    """Conv2D with the bias inside, and no copy of the input in either data format."""

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        if self.data_format == "channels_last":
            _lay_out(self)

    def call(self, inputs: Tensor) -> Tensor:
        if self.lora_enabled or (self.padding == "same" and max(self.strides) > 1):
            return super().call(inputs)
        last = self.data_format == "channels_last"
        outputs = F.conv2d(
            inputs.permute(0, 3, 1, 2) if last else inputs,
            self.kernel.value.permute(3, 2, 0, 1),
            None if self.bias is None else self.bias.value,
            self.strides,
            self.padding,
            self.dilation_rate,
            self.groups,
        )
        outputs = outputs.permute(0, 2, 3, 1) if last else outputs
        return outputs if self.activation is None else self.activation(outputs)


@register
class MaxPooling2D(layers.MaxPooling2D):
    """MaxPooling2D with no copy of the input."""

    def call(self, inputs: Tensor) -> Tensor:
        if self.padding != "valid":
            return super().call(inputs)
        if self.data_format == "channels_first":
            return F.max_pool2d(inputs, self.pool_size, self.strides)
        outputs = F.max_pool2d(inputs.permute(0, 3, 1, 2), self.pool_size, self.strides)
        return outputs.permute(0, 2, 3, 1)


@register
class BatchNormalization(layers.BatchNormalization):
    """BatchNormalization in one function, with Keras' own moving statistics.

    PyTorch would put the unbiased variance of a batch into the moving one, Keras the biased one
    that it divides by. So PyTorch is given two tensors of zeros and the momentum 1, which leaves
    the batch's own statistics in them.
    """

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        mean, variance = self.moving_mean.value, self.moving_variance.value
        x = inputs.movedim(self.axis, 1)  # a view: nothing moves
        n = x.numel() // max(1, mean.numel())  # the values of one channel
        if mask is not None or self.renorm or x.dtype != mean.dtype or n < 2:
            return super().call(inputs, training=training, mask=mask)
        gamma = None if self.gamma is None else self.gamma.value
        beta = None if self.beta is None else self.beta.value
        learning = bool(training) and self.trainable
        if not learning:
            outputs = F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, self.epsilon)
            return outputs.movedim(1, self.axis)
        now = torch.zeros_like(mean), torch.zeros_like(variance)
        outputs = F.batch_norm(x, *now, gamma, beta, True, 1.0, self.epsilon)
        rate = 1 - self.momentum
        self.moving_mean.assign(torch.lerp(mean, now[0], rate))
        self.moving_variance.assign(torch.lerp(variance, now[1] * ((n - 1) / n), rate))
        return outputs.movedim(1, self.axis)


@functools.cache
def _takes_training(kind: type[layers.Layer]) -> bool:
    return "training" in inspect.signature(kind.call).parameters


def _plain(layer: layers.Layer) -> bool:
    """True where calling the layer does no more than its `call` does."""
    return (
        layer.built
        and layer.activity_regularizer is None  # adds to the loss
        and layer.compute_dtype == layer.variable_dtype  # otherwise weights are converted
        and getattr(layer, "quantization_mode", None) is None
        and type(layer).compute_mask is layers.Layer.compute_mask  # makes no mask
    )


@register
class Sequential(keras.Sequential):
    """Sequential that runs its layers' `call` in a row.

    `model(x, training=True)` still pays for one call, that of the model; `model.call(x, True)`
    for none. Masks, mixed precision and the like need what lies around `call`: a batch or a model
    that has any of it takes Keras' own way.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        real = isinstance(inputs, Tensor) and not inputs.is_meta
        masked = mask is not None or getattr(inputs, "_keras_mask", None) is not None
        if not real or masked or not all(map(_plain, self.layers)):
            return super().call(inputs, training=training, mask=mask)
        for layer in self.layers:
            if _takes_training(type(layer)):
                inputs = layer.call(inputs, training=training)
            else:
                inputs = layer.call(inputs)
        return inputs
