"""A study in a file: opened, repaired, gone on with; each trial is finished exactly once."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import choices
import optuna
from filelock import FileLock, Timeout
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

ENDED = TrialState.COMPLETE, TrialState.PRUNED
ETA = 3  # of three trials that reach a rung, one goes on
RUNGS = 1, 3  # epochs after which a trial may be ended


class SearchError(Exception):
    """A search can't be begun or gone on with; the message is a sentence for the reader."""


# ---- the file ----


@contextlib.contextmanager
def owned(path: Path) -> Iterator[None]:
    """Within it this process alone works on the study. The lock dies with the process."""
    lock = FileLock(f"{path}.owner", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise SearchError(
            f"Another process works on {Path(path).name}: wait until it has ended."
        ) from None
    try:
        yield
    finally:
        lock.release()


def repair(path: Path) -> int:
    """Cut off a last line that was never finished, and Optuna's lock of a dead process.

    Call it within `owned`. Returns how many bytes were cut off.
    """
    path = Path(path)
    Path(f"{path}.lock").unlink(missing_ok=True)
    if not path.exists():
        return 0
    content = path.read_bytes()
    torn = len(content) - (content.rfind(b"\n") + 1)
    if torn:
        os.truncate(path, len(content) - torn)
    return torn


def open_study(path: Path) -> optuna.Study:
    """The study in this file; a new one where there is none."""
    lock = JournalFileOpenLock(str(path))
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), lock))
    return optuna.create_study(
        storage=storage,
        study_name="search",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.NopPruner(),
    )


# ---- its trials ----


def done(study: optuna.Study) -> int:
    """How many trials have ended, by themselves or by the rule that ends the weak ones."""
    return len(study.get_trials(deepcopy=False, states=ENDED))


def recover(study: optuna.Study) -> list[int]:
    """Mark the trials that a dead process left running as failed; their numbers."""
    left = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
    for trial in left:
        study.tell(trial.number, state=TrialState.FAIL)
    return [trial.number for trial in left]


def sampler(seed: int, n: int) -> optuna.samplers.BaseSampler:
    """The sampler of the trial that comes after n others: it remembers nothing of its own."""
    return optuna.samplers.TPESampler(seed=1000 * seed + n, n_startup_trials=6)


def go_on(
    study: optuna.Study, objective: Callable[[optuna.Trial], float], trials: int, seed: int
) -> None:
    """Run trials until `trials` have ended, counting those that the file has already."""
    while (n := done(study)) < trials:
        study.sampler = sampler(seed, n)
        trial = study.ask()
        try:
            value = objective(trial)
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)


# ---- what a trial is here ----


def suggest(trial: Any) -> dict[str, Any]:
    """One setting. What means nothing for it isn't asked for."""
    space, setting = choices.SPACE, {"framework": "torch", "kernel": 3, "decay": 0.0}
    for name in ("convolutions", "width", "activation", "optimizer", "batch_size"):
        setting[name] = trial.suggest_categorical(name, space[name])
    setting["lr"] = trial.suggest_float("lr", *space["lr"], log=True)
    setting["dropout"] = trial.suggest_float("dropout", *space["dropout"])
    if setting["convolutions"]:
        setting["kernel"] = trial.suggest_categorical("kernel", space["kernel"])
    if setting["optimizer"] == "adamw":
        setting["decay"] = trial.suggest_float("decay", *space["decay"])
    return setting


def setting_of(trial: Any) -> dict[str, Any]:
    """The setting of a trial that is over."""
    return suggest(optuna.trial.FixedTrial(trial.params))


def halved(study: optuna.Study, epoch: int, value: float) -> bool:
    """Whether a trial with this value after this epoch is to be ended."""
    if epoch not in RUNGS:
        return False
    ended = study.get_trials(deepcopy=False, states=ENDED)
    rivals = [t.intermediate_values[epoch] for t in ended if epoch in t.intermediate_values]
    best = sorted([*rivals, value], reverse=True)
    return value < best[max(len(best) // ETA, 1) - 1]


def objective(
    trial: optuna.Trial, data: dict[str, Any], seed: int, look: Callable[[int, int], None]
) -> float:
    """Nine epochs of a setting, unless it is ended; `look(trial, epoch)` is called after each."""

    def report(epoch: int, right: int, answer: Any) -> None:
        trial.report(right, epoch)
        look(trial.number, epoch)
        if halved(trial.study, epoch, right):
            raise optuna.TrialPruned

    return choices.train(suggest(trial), seed, data, 9, report)[-1]


def paid(study: optuna.Study, learned: int, judged: int) -> int:
    """Multiplications of all epochs that are on file, those of trials cut short too.

    An epoch learns from `learned` pictures and answers for `judged` others.
    """
    return sum(
        len(trial.intermediate_values) * choices.cost(setting_of(trial), learned, judged)
        for trial in study.get_trials(deepcopy=False)
        if trial.intermediate_values
    )
