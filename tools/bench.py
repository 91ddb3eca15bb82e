"""Speed as ratios, measured in one interleaved run: `make bench`.

Machines are noisy and differ, so a time in seconds says little. Each round times every variant
once, in turn; a ratio is taken within a round, and the table shows its median and its quartiles.
"""

import os
import statistics
import time
from collections.abc import Callable

Variant = Callable[[], object]


def interleave(variants: dict[str, Variant], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round. One round more is run first, and not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for counted in [False] + [True] * rounds:
        for name, variant in variants.items():
            start = time.perf_counter()
            variant()
            if counted:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def table(seconds: dict[str, list[float]]) -> str:
    """Each variant's time over the first one's, round by round: median and quartiles."""
    first = next(iter(seconds.values()))
    width = max(map(len, seconds))
    lines = [f"{'':{width}}  ratio  (quartiles)"]
    for name, times in seconds.items():
        ratios = [ours / theirs for ours, theirs in zip(times, first, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        lines.append(f"{name:{width}}  {middle:5.2f}  ({low:.2f} to {high:.2f})")
    return "\n".join(lines)


def epoch_of_chapter_1() -> dict[str, Variant]:
    """One epoch of chapter 1's network: the explicit loop, then what Keras' ways to train cost."""
    import keras
    import numpy as np
    import torch
    from torch import nn

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 20)).astype("float32")
    y = rng.integers(0, 2, (600, 1)).astype("float32")
    batches = [slice(i, i + 20) for i in range(0, 600, 20)]

    net = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    loss_fn, tx, ty = nn.BCEWithLogitsLoss(), torch.from_numpy(x), torch.from_numpy(y)

    def loop() -> None:
        for part in batches:
            optimizer.zero_grad()
            loss_fn(net(tx[part]), ty[part]).backward()
            optimizer.step()

    layers = [keras.layers.Dense(10), keras.layers.ReLU(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((20,)), *layers])
    model.compile(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return {
        "explicit loop (PyTorch)": loop,
        "train_on_batch (Keras)": lambda: [model.train_on_batch(x[p], y[p]) for p in batches],
        "fit (Keras)": lambda: model.fit(x, y, batch_size=20, shuffle=False, verbose=0),
    }


def main(rounds: int = 21) -> None:
    """Run every benchmark and print its table."""
    os.environ["KERAS_BACKEND"] = "torch"
    for benchmark in (epoch_of_chapter_1,):
        print(f"\n{benchmark.__doc__}\n")
        print(table(interleave(benchmark(), rounds)))


if __name__ == "__main__":
    main()
