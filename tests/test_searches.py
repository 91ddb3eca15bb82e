"""The study that survives: killed anywhere, it ends as if nothing had happened."""

import signal

import choices
import numpy as np
import optuna
import pytest
import searches
from optuna.trial import TrialState

SEED = 3


@pytest.fixture(autouse=True)
def quiet():
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(level)


class Killed(BaseException):
    """Stands for a death in this process: nothing catches it, so nothing is tidied up."""


def toy(trial, die=None, look=lambda *place: None):
    """A trial of nine epochs that trains nothing: its values follow from its setting alone."""
    setting = searches.suggest(trial)
    quality = 100 * np.log(setting["lr"] / 1e-3) + 10 * setting["width"] - 50 * setting["dropout"]
    for epoch in range(1, 10):
        value = quality * (1 - 0.5**epoch)
        trial.report(value, epoch)
        look(trial.number, epoch)
        if (trial.number, epoch) == die:
            raise Killed
        if searches.halved(trial.study, epoch, value):
            raise optuna.TrialPruned
    return value


def story(study):
    """What counts of a study: its ended trials, without their numbers."""
    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [(t.params, t.intermediate_values, t.state, t.value) for t in ended]


def whole(tmp_path, trials=10):
    study = searches.open_study(tmp_path / "whole.log")
    searches.go_on(study, toy, trials, SEED)
    return study


def die_and_go_on(path, places, trials=10):
    """Die at each place in turn, each time opened anew; then go on to the end."""
    for place in [*places, None]:
        with searches.owned(path):
            searches.repair(path)
            study = searches.open_study(path)
            searches.recover(study)
            try:
                searches.go_on(study, lambda trial: toy(trial, place), trials, SEED)  # noqa: B023
            except Killed:
                continue
    return study


def test_killed_anywhere_it_is_the_same_study(tmp_path):
    reference = whole(tmp_path)
    places = [(t.number, e) for t in reference.trials for e in t.intermediate_values]
    assert len({t.state for t in reference.trials}) == 2  # some are ended early, some not
    assert len({str(t.params) for t in reference.trials}) == 10  # and no dice fell twice
    for i, place in enumerate(places):
        study = die_and_go_on(tmp_path / f"{i}.log", [place])
        assert story(study) == story(reference), place
        failed = [t.number for t in study.trials if t.state == TrialState.FAIL]
        assert failed == [place[0]] and len(study.trials) == 11


def test_killed_again_and_again(tmp_path):
    study = die_and_go_on(tmp_path / "a.log", [(0, 4), (3, 1), (4, 1), (8, 1)])
    assert story(study) == story(whole(tmp_path))
    assert [t.state.name for t in study.trials].count("FAIL") == 4
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


def test_recover_twice_marks_nothing_more(tmp_path):
    study = searches.open_study(tmp_path / "a.log")
    with pytest.raises(Killed):
        searches.go_on(study, lambda trial: toy(trial, (0, 2)), 3, SEED)
    assert searches.recover(study) == [0] and searches.recover(study) == []


def test_what_is_done_is_not_done_again(tmp_path):
    study = whole(tmp_path, 5)
    assert searches.done(study) == 5
    searches.go_on(study, None, 5, SEED)  # no objective is called


def test_paid_counts_the_epochs_that_were_lost_too(tmp_path):
    reference, study = whole(tmp_path, 4), die_and_go_on(tmp_path / "a.log", [(0, 4)], 4)
    lost = 4 * choices.cost(searches.setting_of(study.trials[0]), 300, 250)
    assert searches.paid(study, 300, 250) == searches.paid(reference, 300, 250) + lost


@pytest.mark.parametrize("cut", [1, 20])
def test_a_torn_last_line_is_cut_off(tmp_path, cut):
    path = tmp_path / "a.log"
    searches.go_on(searches.open_study(path), toy, 3, SEED)
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    last = len(content) - content[:-1].rfind(b"\n") - 1
    assert searches.repair(path) == last - cut and searches.repair(path) == 0
    study = searches.open_study(path)
    searches.recover(study)
    searches.go_on(study, toy, 10, SEED)
    assert story(searches.open_study(path)) == story(whole(tmp_path))


def test_wherever_the_file_ends_it_is_the_same_study(tmp_path):
    """Cut between any two writes, not only between epochs, and in the middle of the next one."""
    reference = whole(tmp_path, 3)
    lines = (tmp_path / "whole.log").read_bytes().splitlines(keepends=True)
    assert len(lines) > 30
    for n in range(0, len(lines), 3):
        path = tmp_path / f"{n}.log"
        path.write_bytes(b"".join(lines[:n]) + lines[n][: len(lines[n]) // 2])
        assert searches.repair(path) == len(lines[n]) // 2
        study = searches.open_study(path)
        searches.recover(study)
        searches.go_on(study, toy, 3, SEED)
        assert story(study) == story(reference), n


def test_a_file_that_is_not_there_needs_no_repair(tmp_path):
    assert searches.repair(tmp_path / "none.log") == 0
    assert not (tmp_path / "none.log").exists()


def test_the_lock_of_a_dead_process_is_removed(tmp_path):
    path = tmp_path / "a.log"
    searches.go_on(searches.open_study(path), toy, 1, SEED)
    lock = tmp_path / "a.log.lock"
    lock.touch()
    searches.repair(path)
    assert not lock.exists()


def test_one_owner_at_a_time(tmp_path):
    path = tmp_path / "a.log"
    taken = pytest.raises(searches.SearchError, match=r"Another process works on a\.log")
    with searches.owned(path), taken, searches.owned(path):
        raise AssertionError("two owners")
    with searches.owned(path):
        pass


def test_a_trial_that_fails_by_itself_is_told_to_whoever_called(tmp_path):
    def broken(trial):
        raise ZeroDivisionError

    study = searches.open_study(tmp_path / "a.log")
    with pytest.raises(ZeroDivisionError):
        searches.go_on(study, broken, 2, SEED)
    assert searches.recover(study) == [0]


def test_the_rule_is_optunas_own(tmp_path):
    """On a stream of values, ended trials are those that Optuna's pruner would end."""
    rng = np.random.default_rng(0)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    theirs = optuna.create_study(direction="maximize", pruner=pruner)
    ours = optuna.create_study(direction="maximize")
    verdicts = []
    for _ in range(60):
        values = np.sort(rng.integers(0, 40, 3))  # with ties
        for study in (theirs, ours):
            trial, verdict = study.ask(), []
            for epoch, value in zip((1, 3, 9), values, strict=True):
                trial.report(int(value), epoch)
                if epoch < 9:
                    ends = searches.halved(study, epoch, int(value))
                    verdict.append(trial.should_prune() if study is theirs else ends)
                    if verdict[-1]:
                        break
            study.tell(trial, int(value), state=TrialState.COMPLETE)
            verdicts.append(verdict)
    assert verdicts[::2] == verdicts[1::2]
    assert {len(v) for v in verdicts} == {1, 2}


def test_the_dead_are_no_rivals():
    study = optuna.create_study(direction="maximize")
    for value in (50, 70, 70, 60, 55, 52):
        trial = study.ask()
        trial.report(value, 1)
        died = trial.number == 1
        study.tell(trial, None if died else value, state=TrialState.FAIL if died else None)
    assert study.trials[1].state == TrialState.FAIL
    assert not searches.halved(study, 1, 66)  # the second best of six; of seven, the third
    assert searches.halved(study, 1, 59)


def test_settings_are_asked_for_where_they_mean_something():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(40):
        trial = study.ask()
        setting = searches.suggest(trial)
        assert ("kernel" in trial.params) == (setting["convolutions"] > 0)
        assert ("decay" in trial.params) == (setting["optimizer"] == "adamw")
        assert set(setting) == set(choices.SPACE)
        study.tell(trial, 0.0)
        assert searches.setting_of(study.trials[-1]) == setting


# ---- a real process, really killed ----


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 14, 14, 1), "float32"), rng.integers(0, 10, 60)
    return {"x": x[:30], "y": y[:30], "x_val": x[30:], "y_val": y[30:]}


def test_a_child_is_killed_and_its_study_goes_on(tmp_path, data):
    path = searches.prepare(tmp_path, data)
    assert searches.kill_at(path, 3, SEED, trial=0, epoch=4) == -signal.SIGKILL
    study = searches.open_study(path)
    (left,) = study.trials
    assert left.state == TrialState.RUNNING and len(left.intermediate_values) == 4
    searches.recover(study)

    def run(trial):
        return searches.objective(trial, data, SEED, lambda *place: None)

    searches.go_on(study, run, 3, SEED)
    reference = searches.open_study(tmp_path / "whole.log")
    searches.go_on(reference, run, 3, SEED)
    assert story(study) == story(reference)
    assert study.trials[0].state == TrialState.FAIL and len(study.trials) == 4


def test_a_child_that_says_nothing_is_ended(tmp_path, data):
    path = searches.prepare(tmp_path, data)
    with pytest.raises(searches.SearchError, match="its last words: nothing"):
        searches.kill_at(path, 1, SEED, trial=0, epoch=1, patience=0)


def test_a_child_that_never_gets_there_is_told(tmp_path, data):
    path = searches.prepare(tmp_path, data)
    with pytest.raises(searches.SearchError, match=r"exit code 0\) before epoch 1 of trial 7"):
        searches.kill_at(path, 1, SEED, trial=7, epoch=1)
    taken = pytest.raises(searches.SearchError, match=r"Another process works on study\.log")
    with searches.owned(path), taken:
        searches.kill_at(path, 2, SEED, trial=1, epoch=1)
