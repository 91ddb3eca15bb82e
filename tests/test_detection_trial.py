"""Chapter 22's trials: what is asked of a network, and how its answers and failures are judged."""

import measured
import numpy as np
import pytest
import torch
from detection import keras_net, metric, scenes, torch_net, trial
from test_detection_scenes import stamps

from tools.bench import detection as bench

A, B, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [80, 80, 90, 90]
SORTED = {  # answers (box, class, score), objects (box, class), a word for each, objects missed
    "right": ([(A, 3, 0.9)], [(A, 3)], ["right"], [0]),
    "missed": ([], [(A, 3), (B, 4)], [], [1, 1]),
    "not sure": ([(A, 3, 0.4)], [(A, 3)], [""], [1]),
    "just sure": ([(A, 3, 0.5)], [(A, 3)], ["right"], [0]),
    "wrong class": ([(A, 4, 0.9)], [(A, 3)], ["wrong class"], [0]),
    "wrong class, just sure": ([(A, 4, 0.5)], [(A, 3)], ["wrong class"], [0]),
    "a tenth of it": ([([0, 0, 10, 1], 3, 0.9)], [(A, 3)], ["badly placed"], [1]),
    "twice": ([(A, 3, 0.8), (A, 3, 0.9)], [(A, 3)], ["twice", "right"], [0]),
    "wrong class first": ([(A, 4, 0.9), (A, 3, 0.8)], [(A, 3)], ["wrong class", "right"], [0]),
    "badly placed": ([([5, 0, 15, 10], 3, 0.9)], [(A, 3)], ["badly placed"], [1]),
    "badly placed, wrong class": ([([5, 0, 15, 10], 4, 0.9)], [(A, 3)], ["badly placed"], [1]),
    "hardly at it": ([([9, 0, 19, 10], 3, 0.9)], [(A, 3)], ["clutter"], [1]),
    "clutter": ([(FAR, 3, 0.9), (A, 3, 0.6)], [(A, 3)], ["clutter", "right"], [0]),
    "half of it": ([([0, 0, 10, 5], 3, 0.9)], [(A, 3)], ["right"], [0]),
    "two of a kind": ([(B, 3, 0.9), (A, 3, 0.8)], [(A, 3), (B, 3)], ["right", "right"], [0, 0]),
}


def answers(rows):
    boxes = np.array([row[0] for row in rows], float).reshape(-1, 4)
    return boxes, *(
        np.array([row[i] for row in rows]) for i in range(1, len(rows[0]) if rows else 3)
    )


@pytest.mark.parametrize("name", SORTED)
def test_answers_are_sorted_by_what_is_wrong_with_them(name):
    said, objects, words, missed = SORTED[name]
    found, gone = trial.sort_out(answers(said), answers(objects))
    assert list(found) == words and gone.tolist() == missed


@pytest.mark.parametrize("net", [torch_net, keras_net])
def test_a_network_is_asked_in_pieces_and_by_its_own_detect(net):
    torch.manual_seed(0)
    pictures, *_ = data = scenes.make(0, 52, *stamps())
    model = net.Detector()
    found = trial.ask(net, model, pictures)
    assert len(found) == 52
    images = torch.tensor(pictures[48:, ..., None] / np.float32(255))
    with torch.no_grad():
        wanted = net.detect(model, images)
        plain = trial.detect_without(net, model, images)
        moved = trial.detect_without(net, model, images, second=0, same=1)
    assert all(torch.equal(a, b) for a, b in zip(wanted, plain, strict=True))
    boxes, classes, scores = (x.numpy() for x in wanted)
    for i in range(4):
        given = scores[i] >= trial.LEAST
        assert given.any() and np.abs(found[48 + i][0] - boxes[i][given]).max() < 0.01
        assert np.array_equal(found[48 + i][1], classes[i][given])
    assert (moved[2] > 0).sum() > (wanted[2] > 0).sum()  # nothing is suppressed
    with torch.no_grad():
        _, scores, codes = model(images)
        still, _ = net.propose(scores, codes)
    assert (moved[0] - still).abs().max() < 1e-4  # nor corrected: some ten roundings of 96
    true = trial.truths(data)
    assert [len(boxes) for boxes, _ in true] == (data[2] >= 0).sum(1).tolist()
    values = trial.judge(found, true, [0.5, 0.75])
    wanted = [metric.mean_average_precision(found, true, t) for t in (0.5, 0.75)]
    assert values.tolist() == wanted and len(trial.THRESHOLDS) == 10
    assert trial.THRESHOLDS[[0, -1]].tolist() == [0.5, 0.95]


def test_the_record_is_of_runs_that_were():
    """Counts that fit together, a curve of each run that is its own, and the floor."""
    stored = measured.load("detection")["results"]
    assert (stored["steps"], stored["scenes"], stored["judged"]) == (
        bench.STEPS,
        bench.SCENES,
        bench.JUDGED,
    )
    runs = stored["runs"]
    assert {run["framework"] for run in runs} == {"keras", "torch"}
    assert len({str(run["curve"]) for run in runs}) == len(runs)
    assert len({run["objects"] for run in runs}) == 1
    for run in runs:
        curve, values, kinds = np.array(run["curve"]), np.array(run["map"]), run["kinds"]
        assert curve.shape == (stored["steps"] // 50, 4) and run["seconds"] > 0 < run["cpu"]
        assert curve[-1].sum() < curve[0].sum() / 2
        assert values.shape == (10,) and values.min() >= 0 and values.max() <= 1
        assert (np.diff(values) < 0.005).all()  # a stricter threshold finds no more, or by luck
        assert kinds["right"] + kinds["missed"] <= run["objects"]
        assert run["read"] != "roi_align" or values[0] >= stored["floor"] == bench.FLOOR
        assert all(v[0] < values[0] + 0.005 for v in run["without"].values())
    assert bench.FLOOR >= 0.85
