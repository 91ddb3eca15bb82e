"""Chapter 15's remedies once more, in Keras alone: ten seeds each, by `fit`.

The training sets, strengths and numbers of steps are those of the chapter's first table. Starts,
orders, masks and movements are drawn anew, so that this is a second study of the same question.
The test set is not touched.
"""

import math

import numpy as np

SEEDS = range(10)
REMEDIES = {
    "nothing": {},
    "weight decay": {"decay": 0.3},
    "dropout": {"dropout": 0.6},
    "augmentation": {"augment": 1.0},
    "early stopping": {"stop": True},
    "label smoothing": {"smoothing": 0.1},
    "BatchNorm": {"norm": True},
    "three of them": {"decay": 0.3, "dropout": 0.2, "augment": 1.0},
    "more pictures": {"n": 1200, "epochs": 10},
}


def pictures():
    """The chapter's three sets: 50,000 to draw from, 500 to stop by, 5,000 to judge by."""
    import crowd

    from helpers.data import load_mnist

    digits = load_mnist()
    if not digits.is_mnist:
        raise RuntimeError("This benchmark needs the real MNIST: set BOOK_DATA to its folder.")
    order = np.random.default_rng(0).permutation(60_000)
    ink = crowd.shrink(digits.x_train[order])
    x, y = ink / ink[:50_000].std(), digits.y_train[order].astype("int64")
    cuts = {"pool": slice(50_000), "val": slice(50_000, 50_500), "check": slice(50_500, 55_500)}
    return {name: (x[rows], y[rows]) for name, rows in cuts.items()}


def moved(x, amount, rng):
    """Rows (N, 196), each turned and moved at random, by Keras' own function."""
    import keras

    drawn = rng.uniform(-1, 1, (len(x), 3)) * amount
    c, s = np.cos(drawn[:, 0] * math.radians(10)), np.sin(drawn[:, 0] * math.radians(10))
    right = 6.5 * (1 - c - s) - drawn[:, 1]
    down = 6.5 * (1 + s - c) - drawn[:, 2]
    matrix = np.stack([c, s, right, -s, c, down, 0 * c, 0 * c], axis=1).astype("float32")
    warped = keras.ops.image.affine_transform(x.reshape(-1, 14, 14, 1), matrix)
    return keras.ops.convert_to_numpy(warped).reshape(x.shape)


def score(
    data,
    seed,
    n=300,
    epochs=40,
    decay=0.0,
    dropout=0.0,
    augment=0.0,
    smoothing=0.0,
    norm=False,
    stop=False,
):
    """Train one network; its accuracy in percent and its loss on the pictures of `check`."""
    import keras
    from keras import layers

    from helpers import training

    keras.utils.set_random_seed(3000 + seed)
    rows = np.random.default_rng([seed, 14]).permutation(len(data["pool"][0]))[:n]
    x, y = (part[rows] for part in data["pool"])
    model = keras.Sequential(
        [
            keras.Input(shape=(196,)),
            layers.Dense(128),
            *([layers.BatchNormalization(momentum=0.9, epsilon=1e-5)] if norm else []),
            layers.ReLU(),
            *([layers.Dropout(dropout)] if dropout else []),
            layers.Dense(10),
        ]
    )
    model.compile(
        keras.optimizers.AdamW(0.003, weight_decay=decay),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing),
    )
    batches = training.Batches(x, np.eye(10, dtype="float32")[y], 50, seed=3000 + seed)
    rng = np.random.default_rng([seed, 31])

    def move(epoch, logs):
        batches.x = moved(x, augment, rng)

    callbacks, val = [training.tell(batches)], None
    if augment:
        callbacks.append(keras.callbacks.LambdaCallback(on_epoch_begin=move))
    if stop:  # at the end of all epochs it goes back to the best one
        val = data["val"][0], np.eye(10, dtype="float32")[data["val"][1]]
        callbacks.append(keras.callbacks.EarlyStopping(patience=epochs, restore_best_weights=True))
    model.fit(
        batches, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks, validation_data=val
    )
    x, y = data["check"]
    logits = model.predict(x, batch_size=len(x), verbose=0).astype("float64")
    top = logits.max(axis=1)
    loss = top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[range(len(y)), y]
    return float(100 * (logits.argmax(axis=1) == y).mean()), float(loss.mean())


def run() -> dict:
    """Each remedy ten times, and what it gains over its twins without it, in pairs."""
    data, found = pictures(), {}
    for name, how in REMEDIES.items():
        accuracy, loss = zip(*(score(data, seed, **how) for seed in SEEDS), strict=True)
        found[name] = {
            "accuracy": [round(v, 2) for v in accuracy],
            "loss": [round(v, 4) for v in loss],
        }
        d = np.subtract(accuracy, found["nothing"]["accuracy"])
        half = 2.262 * d.std(ddof=1) / math.sqrt(len(d))
        print(
            f"  {name:16} {np.mean(accuracy):5.1f} %  gain {d.mean():+.2f} ± {half:.2f}", flush=True
        )
    return found
