"""A setting in Keras: its network, its optimiser, a step and an answer."""

import keras
from keras import layers

__all__ = ["learner", "make_model", "make_optimizer"]


# fmt: off
def make_model(setting):
    """The network of a setting: pictures (N, 14, 14, 1) to logits (N, 10)."""
    model = keras.Sequential([keras.Input((14, 14, 1))])
    for i in range(setting["convolutions"]):
        model.add(layers.Conv2D(
            setting["width"] * 2**i,
            setting["kernel"], padding="same"))
        model.add(layers.Activation(setting["activation"]))
        model.add(layers.MaxPooling2D(2))
    model.add(layers.Flatten())
    model.add(layers.Dense(8 * setting["width"]))
    model.add(layers.Activation(setting["activation"]))
    model.add(layers.Dropout(setting["dropout"]))
    model.add(layers.Dense(10))
    return model


def make_optimizer(setting):
    """Its optimiser; decay is AdamW's alone."""
    if setting["optimizer"] == "sgd":
        return keras.optimizers.SGD(
            setting["lr"], momentum=0.9)
    return keras.optimizers.AdamW(
        setting["lr"], epsilon=1e-20,
        weight_decay=setting["decay"])


def learner(setting, weights):
    """A step on a batch, and the logits for pictures: two functions of NumPy arrays."""
    model = make_model(setting)
    model.set_weights(weights)
    model.compile(
        make_optimizer(setting),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True))
    return model.train_on_batch, model.predict_on_batch
