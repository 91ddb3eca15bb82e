"""The two whole programs of chapter 28, from a cold start: `python -m coldstart.programs keras`.

The functions are the chapter's, line by line (a test compares them); what stands around them is the
clock. The last line that a run prints is what it found, as JSON.
"""

import json
import sys
import time

EPOCHS = 2


def run_keras():
    began = time.process_time()
    import keras
    from keras import layers

    # fmt: off
    def first_keras(x, y, x_val, y_val, epochs):
        model = keras.Sequential([
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ])
        model.compile(
            keras.optimizers.Adam(learning_rate=0.001),
            keras.losses.SparseCategoricalCrossentropy(
                from_logits=True),
            metrics=["accuracy"])
        run = model.fit(
            x, y, batch_size=128, epochs=epochs,
            validation_data=(x_val, y_val), verbose=0)
        return list(run.history.values())
    # fmt: on

    keras.utils.set_random_seed(0)
    return first_keras, time.process_time() - began


def run_torch():
    began = time.process_time()
    import torch
    from torch import nn
    from torch.nn import functional as F

    # fmt: off
    def first_torch(x, y, x_val, y_val, epochs):
        model = nn.Sequential(
            nn.Linear(x.shape[1], 64), nn.ReLU(),
            nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        adam = torch.optim.Adam(model.parameters(), lr=0.001)
        x, y, x_val, y_val = (
            torch.from_numpy(a) for a in (x, y, x_val, y_val))
        history = []
        for _ in range(epochs):
            sums = torch.zeros(2)
            for rows in torch.randperm(len(x)).split(128):
                logits = model(x[rows])
                loss = F.cross_entropy(logits, y[rows])
                adam.zero_grad()
                loss.backward()
                adam.step()
                right = (logits.argmax(1) == y[rows]).sum()
                sums[0] += right
                sums[1] += loss.detach() * len(rows)
            with torch.no_grad():
                logits = model(x_val)
            right = (logits.argmax(1) == y_val).float().mean()
            loss = F.cross_entropy(logits, y_val)
            history.append((*sums / len(x), right, loss))
        return torch.tensor(history).T.tolist()
    # fmt: on

    torch.manual_seed(0)
    return first_torch, time.process_time() - began


def main(name: str) -> dict:
    """Import, then train: seconds of each, and the accuracy on the last 10,000 training pictures.

    Seconds are the processor's: with one thread the clock shows the same on a quiet machine, and
    on a busy one these stay what they are. Reading the pictures isn't timed: both do the same.
    """
    program, imported = {"keras": run_keras, "torch": run_torch}[name]()

    from helpers.data import load_mnist

    digits = load_mnist()
    x = digits.x_train.reshape(len(digits.x_train), -1).astype("float32") / 255
    y = digits.y_train.astype("int64")
    began = time.process_time()
    history = program(x[:-10_000], y[:-10_000], x[-10_000:], y[-10_000:], EPOCHS)
    trained = time.process_time() - began
    return {"import": imported, "train": trained, "accuracy": history[2][-1]}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
