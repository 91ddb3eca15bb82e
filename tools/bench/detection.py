"""Faster R-CNN in full: both frameworks, several seeds, what its parts are worth, RoIPool.

A seed decides the first weights, the order of the scenes, and what each step learns from. Keras
and PyTorch, and RoIAlign and RoIPool, get the same of all three. Each run has one thread; two run
at a time. What is found is judged on scenes made of test digits, which served for nothing else.
"""

import functools
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

STEPS, SCENES, JUDGED = 1_500, 4_000, 600
SEEDS = range(4)
FLOOR = 0.85  # of mAP at an overlap of 0.5, in every run with RoIAlign
WITHOUT = {
    "corrections of the heads": {"second": 0},
    "all corrections": {"first": 0, "second": 0},
    "suppression of answers": {"same": 1},
    "suppression of proposals": {"crowded": 1},
}


@functools.cache
def data():
    """Scenes to learn from, and scenes to judge by: no digit is in both."""
    from detection import scenes

    from helpers.data import load_mnist

    digits = load_mnist()
    if not digits.is_mnist:
        raise RuntimeError("This benchmark needs the real MNIST: set BOOK_DATA to its folder.")
    learn = scenes.make(1, SCENES, digits.x_train, digits.y_train)
    return learn, scenes.make(2, JUDGED, digits.x_test, digits.y_test)


def covered(net, model, pictures, true):
    """The part of the objects that a proposal overlaps by 0.5, and by 0.7."""
    import torch
    from detection import parts

    best = []
    for i, (objects, _) in enumerate(true):
        images = torch.as_tensor(pictures[i : i + 1, ..., None] / np.float32(255))
        with torch.no_grad():
            _, scores, codes = model(images.to(next(model.parameters()).device))
            boxes, able = net.propose(scores, codes)
        boxes = boxes[0][able[0]].cpu().numpy()
        best += list(parts.iou(objects, boxes).max(1))
    return [round(float(np.mean(np.array(best) >= t)), 3) for t in (0.5, 0.7)]


def trained(task):
    """One run: a framework, a way to read regions, a seed. What it took, and what it finds."""
    import keras
    import torch
    from detection import keras_net, keras_parts, plan, torch_net, torch_parts, trial

    from helpers import device, parity

    framework, read, seed, steps = task
    torch.set_num_threads(1)
    device.pick()
    learn, check = data()
    keras.utils.set_random_seed(seed)
    net, model = keras_net, keras_net.Detector(getattr(keras_parts, read))
    if framework == "torch":
        twin = torch_net.Detector(getattr(torch_parts, read))
        parity.copy_weights(model, twin)
        net, model = torch_net, twin
    batches = plan.batches(learn, steps, seed)
    clock, cpu = time.perf_counter(), time.process_time()
    history = net.train(model, batches)
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    true = trial.truths(check)
    found = trial.ask(net, model, check[0])
    without = {}
    for name, how in WITHOUT.items() if read == "roi_align" else ():
        answers = trial.ask(net, model, check[0], **how)
        without[name] = trial.judge(answers, true, [0.5, 0.75]).round(4).tolist()
    kinds = []
    for answers, objects in zip(found, true, strict=True):
        words, missed = trial.sort_out(answers, objects)
        kinds += [*filter(None, words), *["missed"] * missed.sum()]
    curve = history[: len(history) // 50 * 50].reshape(-1, 50, 4).mean(1)
    return {
        "framework": framework,
        "read": read,
        "seed": seed,
        "seconds": round(clock),
        "cpu": round(cpu),
        "curve": curve.round(3).tolist(),
        "map": trial.judge(found, true).round(4).tolist(),
        "without": without,
        "covered": covered(net, model, check[0], true),
        "kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "objects": sum(len(classes) for _, classes in true),
    }


def run(steps=STEPS, seeds=SEEDS, processes=2) -> dict:
    """All runs, the slowest first; a shorter one, to try it: run(steps=40, seeds=[0])."""
    tasks = [("keras", "roi_align", seed, steps) for seed in seeds[:2]]
    tasks += [("torch", read, seed, steps) for read in ("roi_pool", "roi_align") for seed in seeds]
    runs, clock = [], time.perf_counter()
    print(f"\n{'':26}  {'seconds':>7}  mAP at 0.5   0.75   mean;  without, at 0.5", flush=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        for row in pool.map(trained, tasks):
            values = row["map"]
            line = f"  {row['framework']:6} {row['read']:10} seed {row['seed']}  {row['seconds']:7}"
            line += f"       {values[0]:.3f}  {values[5]:.3f}  {np.mean(values):.3f}  "
            rest = [f"{name} {v[0]:.3f}" for name, v in row["without"].items()]
            print(line, ", ".join(rest), flush=True)
            runs.append(row)
    print(f"  {time.perf_counter() - clock:.0f} s in all")
    if steps == STEPS:
        worst = min(row["map"][0] for row in runs if row["read"] == "roi_align")
        if worst < FLOOR:
            raise RuntimeError(f"A run reaches an mAP of {worst:.3f}, and must reach {FLOOR}.")
    return {"steps": steps, "scenes": SCENES, "judged": JUDGED, "floor": FLOOR, "runs": runs}
