"""`python -m searches.worker FILE TRIALS SEED`: go on with the search in FILE, step by step.

After each epoch it prints the trial and the epoch, and waits for a line on its standard input.
"""

import sys
from pathlib import Path

import numpy as np
import optuna
import torch

from searches.study import go_on, objective, open_study, owned, recover, repair


def look(trial: int, epoch: int) -> None:
    """Say where the search stands, and wait for leave to go on."""
    print(trial, epoch, flush=True)
    if not sys.stdin.readline():
        raise SystemExit("Nobody is there any more to give leave.")


def main(path: Path, trials: int, seed: int) -> None:
    """Own the file, mend it, and run what is missing."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    with np.load(path.with_name("data.npz")) as file:
        data = dict(file)
    with owned(path):
        repair(path)
        study = open_study(path)
        recover(study)
        go_on(study, lambda trial: objective(trial, data, seed, look), trials, seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
