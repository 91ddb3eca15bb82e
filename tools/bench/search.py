"""A search of which all answers are known: every setting of a grid, trained and judged four times.

To search is then to look up, so that searches can be compared over and over at no cost.
"""

import numpy as np

GRID = {
    "lr": [1e-3, 3e-3, 6e-3, 1e-2, 3e-2],
    "decay": [0.0, 0.3, 1.0],
    "dropout": [0.0, 0.3, 0.6],
    "augment": [0.0, 1.0, 1.5],
}
TABLE_SEEDS = range(200, 204)


def table(data):
    """Every trial of a grid, four times: right answers of 250 to choose by and of 5,000 to judge.

    The four times differ in training pictures, start, order and the 250. Width 32, 30 epochs.
    """
    import crowd
    import torch

    from tools.bench.generalisation import own

    shape = [len(values) for values in GRID.values()]
    found = np.zeros((2, len(TABLE_SEEDS), *shape), int)
    x, y = own(data["pool"], TABLE_SEEDS, 300)
    xv, yv = (part.unflatten(0, (4, 250)) for part in data["val"])
    for i, lr in enumerate(GRID["lr"]):
        for j, decay in enumerate(GRID["decay"]):
            for a, augment in enumerate(GRID["augment"]):
                drop = torch.tensor(GRID["dropout"]).repeat_interleave(len(TABLE_SEEDS))
                seeds = list(TABLE_SEEDS) * len(GRID["dropout"])
                times = len(GRID["dropout"])
                net = crowd.train(
                    x.repeat(times, 1, 1), y.repeat(times, 1), seeds, epochs=30, width=32,
                    lr=lr, decay=decay, dropout=drop, augment=augment,
                )  # fmt: skip
                val = net.logits(xv.repeat(times, 1, 1)).argmax(2) == yv.repeat(times, 1)
                check = net.logits(data["check"][0]).argmax(2) == data["check"][1]
                for part, right in enumerate((val, check)):
                    counts = right.sum(1).reshape(times, len(TABLE_SEEDS)).T.numpy()
                    found[part, :, i, j, :, a] = counts
        print(f"  lr {lr:g}: best of 250 {found[0, :, i].max()}", flush=True)
    return {
        "grid": GRID,
        "val": [" ".join(map(str, part.ravel())) for part in found[0]],
        "check": [" ".join(map(str, part.ravel())) for part in found[1]],
    }


def run() -> dict:
    """The whole table."""
    from tools.bench.generalisation import pictures

    return table(pictures())
