"""A search of which all answers are known, epoch by epoch, from each framework's own training.

Every setting of `choices.GRID` is trained by either framework, each time with training pictures,
first weights, order and validation pictures of its own; what the trained network is worth is
counted on pictures that chose nothing. Then Optuna's TPE searches in the table, many times.
"""

import numpy as np

EPOCHS = 9
PICTURES, VAL, CHECK = 300, 250, 2000
REPEATS = {"torch": [0, 1, 2], "keras": [0, 3]}  # one luck in common
STUDIES, TRIALS = 40, 40


def pictures(digits, repeat):
    """The pictures of one repeat: to learn from, to choose by, and those to judge by (shared)."""
    import crowd

    rng = np.random.default_rng(25)
    order = rng.permutation(len(digits.x_train))
    check, rest = order[:CHECK], order[CHECK:]
    rows = rest[repeat * (PICTURES + VAL) :][: PICTURES + VAL]
    mine = {"x": rows[:PICTURES], "x_val": rows[PICTURES:], "x_check": check}
    data = {}
    for name, part in mine.items():
        ink = crowd.shrink(digits.x_train[part]).reshape(-1, 14, 14, 1)
        data[name] = ink / np.float32(0.3)
        data[name.replace("x", "y")] = digits.y_train[part].astype("int64")
    return data


def table(digits):
    """Right answers of each setting: of 250 after each epoch, of 2,000 after the last."""
    import choices

    found = {}
    for framework, repeats in REPEATS.items():
        found[framework] = {}
        for repeat in repeats:
            data, val, check = pictures(digits, repeat), [], []

            def judge(epoch, right, answer, data=data, check=check):
                if epoch == EPOCHS:
                    answers = np.argmax(answer(data["x_check"]), axis=1)
                    check.append(int((answers == data["y_check"]).sum()))

            for setting in choices.SETTINGS:
                setting = setting | {"framework": framework}
                val.append(choices.train(setting, repeat, data, EPOCHS, judge))
            best = int(np.argmax([row[-1] for row in val]))
            print(
                f"  {framework} {repeat}: best of {VAL} {val[best][-1]}, that one of {CHECK} "
                f"{check[best]}, best {max(check)}: {choices.SETTINGS[best]}",
                flush=True,
            )
            found[framework][str(repeat)] = {
                "val": [" ".join(map(str, row)) for row in val],
                "check": " ".join(map(str, check)),
            }
    return found


def tpe(found):
    """The settings, by number, that TPE looks up: one study a framework, repeat and seed."""
    import choices
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shape = [len(values) for values in choices.GRID.values()]
    studies = []
    for framework, repeats in found.items():
        for repeat, part in repeats.items():
            last = [int(row.split()[-1]) for row in part["val"]]
            for seed in range(STUDIES):
                sampler = optuna.samplers.TPESampler(seed=seed)
                study = optuna.create_study(direction="maximize", sampler=sampler)
                looked = []
                for _ in range(TRIALS):
                    trial = study.ask()
                    place = [
                        trial.suggest_int(name, 0, size - 1)
                        for name, size in zip(choices.GRID, shape, strict=True)
                    ]
                    looked.append(int(np.ravel_multi_index(place, shape)))
                    study.tell(trial, last[looked[-1]])
                studies.append(
                    {
                        "framework": framework,
                        "repeat": repeat,
                        "looked": " ".join(map(str, looked)),
                    }
                )
            print(f"  TPE on {framework} {repeat}: {STUDIES} studies", flush=True)
    return studies


def run() -> dict:
    """The table of both frameworks, and the searches in it."""
    from helpers.data import load_mnist

    digits = load_mnist()
    if not digits.is_mnist:
        raise RuntimeError("This benchmark needs the real MNIST: set BOOK_DATA to its folder.")
    found = table(digits)
    return {
        "epochs": EPOCHS,
        "pictures": {"train": PICTURES, "val": VAL, "check": CHECK},
        "table": found,
        "tpe": tpe(found),
    }
