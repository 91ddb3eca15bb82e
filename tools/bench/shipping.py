"""What each way to ship costs: bytes, the start, one picture at a time, many at once.

Chapter 8's small network, 55,092 parameters, on one thread, in every form of chapter 17. All take
an array (N, 1, 28, 28) and give one (N, 10). A process that has to start first is a new one each
time: `python -m tools.bench.shipping FORM FOLDER`.
"""

import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

Predict = Callable[[Any], Any]

ROUNDS, CALLS, MANY, STARTS = 15, 60, 250, 3
FORMS = {  # what is loaded: the file, and the packages that must be installed
    "Keras, predict": ("digits.keras", ["keras", "torch", "numpy"]),
    "Keras, called": ("digits.keras", ["keras", "torch", "numpy"]),
    "PyTorch": ("digits.pt", ["torch", "numpy"]),
    "torch.compile": ("digits.pt", ["torch", "numpy"]),
    "AOTInductor": ("aoti.pt2", ["torch", "numpy"]),
    "ONNX Runtime": ("digits.onnx", ["onnxruntime", "numpy"]),
    "ONNX Runtime, Keras' file": ("keras.onnx", ["onnxruntime", "numpy"]),
    "ONNX Runtime, int8": ("int8.onnx", ["onnxruntime", "numpy"]),
    "OpenVINO": ("digits.onnx", ["openvino", "numpy"]),
}
NATIVE = {  # C++: the program, and the file that it loads
    "OpenVINO, C++": ("openvino_app", "digits.onnx"),
    "AOTInductor, C++": ("aoti_app", "aoti.pt2"),
}


def torch_model() -> Any:
    from torch import nn

    def block(channels: int, filters: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, filters, 3), nn.ReLU(), nn.MaxPool2d(2)]

    head = [nn.Flatten(), nn.Linear(800, 62), nn.ReLU(), nn.Linear(62, 10)]
    return nn.Sequential(*block(1, 16), *block(16, 32), *head).eval()


def make(folder: Path) -> dict[str, float]:
    """Write all files that FORMS names; the seconds that it took to make each."""
    import keras
    import numpy as np
    import torch
    from keras import layers
    from onnxruntime import quantization as q

    from helpers import parity

    keras.utils.set_random_seed(0)
    torch.set_num_threads(1)
    block = [[layers.Conv2D(n, 3), layers.ReLU(), layers.MaxPooling2D(2)] for n in (16, 32)]
    head = [layers.Flatten(), layers.Dense(62), layers.ReLU(), layers.Dense(10)]
    keras_model = keras.Sequential([keras.Input((28, 28, 1)), *block[0], *block[1], *head])
    model = torch_model()
    parity.copy_weights(keras_model, model)
    keras_model(np.zeros((1, 28, 28, 1), "float32"))  # what was never called isn't exported
    x, batch = torch.zeros(2, 1, 28, 28), torch.export.Dim("batch")
    names = {"input_names": ["pictures"], "output_names": ["logits"]}
    pictures = torch.rand(200, 1, 28, 28).numpy()

    class Calibration(q.CalibrationDataReader):
        batches = iter([{"pictures": pictures}])

        def get_next(self) -> Any:
            return next(self.batches, None)

    def onnx() -> None:
        shapes = ({0: batch},)
        kind = {"dynamo": True, "verbose": False, "dynamic_shapes": shapes, **names}
        torch.onnx.export(model, (x,), **kind).save(folder / "digits.onnx")

    def aoti() -> None:
        program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
        path = str(folder / "aoti.pt2")
        quicker = {"aot_inductor.precompile_headers": False}
        torch._inductor.aoti_compile_and_package(
            program, package_path=path, inductor_configs=quicker
        )

    def int8() -> None:
        kind = {"per_channel": True, "reduce_range": True, "weight_type": q.QuantType.QInt8}
        kind["activation_type"] = q.QuantType.QUInt8
        q.quantize_static(folder / "digits.onnx", folder / "int8.onnx", Calibration(), **kind)

    steps = {
        "digits.keras": lambda: keras_model.save(folder / "digits.keras"),
        "digits.pt": lambda: torch.save(model.state_dict(), folder / "digits.pt"),
        "digits.onnx": onnx,
        "keras.onnx": lambda: keras_model.export(
            str(folder / "keras.onnx"), format="onnx", verbose=False
        ),
        "int8.onnx": int8,
        "aoti.pt2": aoti,
    }
    seconds = {}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        seconds[name] = round(time.perf_counter() - start, 1)
    return seconds


def load(form: str, folder: Path) -> Predict:
    """The function that predicts, from the files alone, on one thread."""
    file = folder / FORMS[form][0]
    if form.startswith("ONNX"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        if file.name == "keras.onnx":
            return lambda x: session.run(None, {name: x.reshape(-1, 28, 28, 1)})[0]
        return lambda x: session.run(None, {name: x})[0]
    if form == "OpenVINO":
        import openvino

        config = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        request = openvino.Core().compile_model(file, "CPU", config).create_infer_request()
        return lambda x: request.infer({0: x}, share_inputs=True)[0]
    import torch

    torch.set_num_threads(1)
    if form.startswith("Keras"):
        import keras

        keras_model = keras.models.load_model(file)

        def called(x: Any) -> Any:
            with torch.no_grad():
                return keras_model(x.reshape(-1, 28, 28, 1), training=False).numpy()

        def predicted(x: Any) -> Any:
            return keras_model.predict(x.reshape(-1, 28, 28, 1), batch_size=MANY, verbose=0)

        return predicted if form == "Keras, predict" else called
    if form == "AOTInductor":
        model = torch._inductor.aoti_load_package(str(file))
    else:
        model = torch_model()
        model.load_state_dict(torch.load(file))
        if form == "torch.compile":
            model = torch.compile(model)

    def predict(x: Any) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    return predict


def calls(predicts: dict[str, Predict], x: Any, rounds: int, times: int) -> dict[str, list]:
    """Seconds of each call, by form and round: in each round each has its turn, another first."""
    found: dict[str, list] = {form: [] for form in predicts}
    forms = list(predicts)
    for turn in range(rounds):
        first = turn % len(forms)
        for form in forms[first:] + forms[:first]:
            predict, taken = predicts[form], []
            predict(x)  # warm again, after the others
            for _ in range(times):
                start = time.perf_counter()
                predict(x)
                taken.append(time.perf_counter() - start)
            found[form].append(taken)
    return found


def summary(found: dict[str, list], base: str = "PyTorch") -> dict[str, dict[str, float]]:
    """Median and 99th percentile of the calls in ms; the medians of rounds over those of `base`."""
    medians = {form: [statistics.median(turn) for turn in turns] for form, turns in found.items()}
    table = {}
    for form, turns in found.items():
        every = sorted(second for turn in turns for second in turn)
        quotients = [a / b for a, b in zip(medians[form], medians[base], strict=True)]
        low, middle, high = statistics.quantiles(quotients, n=4, method="inclusive")
        table[form] = {
            "p50": round(1e3 * statistics.median(every), 3),
            "p99": round(1e3 * every[int(0.99 * len(every))], 3),
            "ratio": round(middle, 3),
            "low": round(low, 3),
            "high": round(high, 3),
        }
    return table


def starts(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds from nothing to the first answer, in a process of its own, and its memory."""
    from shipping import Program

    programs = {}
    for form, (name, file) in NATIVE.items():
        words = [folder / file, folder / "one.bin", folder / "logits.bin"]
        programs[form] = [Program(name, folder).ready(), *words]
    ours = [sys.executable, "-m", "tools.bench.shipping"]
    programs |= {form: [*ours, form, folder] for form in FORMS}
    found: dict[str, list] = {form: [] for form in programs}
    memory: dict[str, int] = {}
    for turn in range(rounds + 1):  # the first finds cold caches, and isn't counted
        for form, words in programs.items():
            start = time.perf_counter()
            done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
            if turn:
                found[form].append(time.perf_counter() - start)
            if form in FORMS:
                memory[form] = json.loads(done.stdout)["megabytes"]
    table = {}
    for form, seconds in found.items():
        table[form] = {"seconds": round(statistics.median(seconds), 2)}
        table[form] |= {"least": round(min(seconds), 2), "most": round(max(seconds), 2)}
        if form in memory:
            table[form]["megabytes"] = memory[form]
    return table


def installed(packages: list[str]) -> int:
    """Megabytes that these packages take on the disk."""
    files = [file for name in packages for file in metadata.files(name) or ()]
    paths = {Path(file.locate()) for file in files}
    return round(sum(path.stat().st_size for path in paths if path.is_file()) / 1e6)


def run() -> dict:
    import numpy as np
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    one = rng.random((1, 1, 28, 28), dtype="float32")
    many = rng.random((MANY, 1, 28, 28), dtype="float32")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = make(folder)
        print("seconds to make each file:", made, flush=True)
        one.tofile(folder / "one.bin")
        predicts = {form: load(form, folder) for form in FORMS}
        expected = predicts["PyTorch"](many)
        for form, predict in predicts.items():
            for x, answer in ((many, expected), (one, predicts["PyTorch"](one))):
                far = np.abs(predict(x) - answer).max()
                assert far < (1 if "int8" in form else 1e-4), f"{form} differs by {far}"
        gc.collect()
        gc.disable()
        latency = summary(calls(predicts, one, ROUNDS, CALLS))
        batches = summary(calls(predicts, many, ROUNDS, 3))
        gc.enable()
        for form, row in batches.items():
            row["per_second"] = round(MANY / row["p50"] * 1e3, -2)
            numbers = [latency[form][key] for key in ("p50", "p99", "ratio")]
            print(f"{form:26}", *numbers, row["per_second"], row["ratio"], flush=True)
        start = starts(folder, STARTS)
        for form, row in start.items():
            print(f"{form:26}", row, flush=True)
        sizes = {
            form: {"file": (folder / file).stat().st_size, "installed": installed(packages)}
            for form, (file, packages) in FORMS.items()
        }
    return {
        "made": made,
        "sizes": sizes,
        "one": latency,
        "many": batches,
        "start": start,
        "settings": {"rounds": ROUNDS, "calls": CALLS, "batch": MANY, "starts": STARTS},
    }


def peak() -> int | None:
    """The most memory that this process has had, in megabytes (Linux; elsewhere unknown).

    `getrusage` won't do: its maximum is inherited from the process that started this one.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.is_file() else None
    return round(int(found[1]) / 1024) if found else None


def first_answer(form: str, folder: str) -> None:
    """In a process of its own: load, predict one picture, and say how much memory it took."""
    import numpy as np

    x = np.fromfile(Path(folder, "one.bin"), "float32").reshape(1, 1, 28, 28)
    assert load(form, Path(folder))(x).shape == (1, 10)
    print(json.dumps({"megabytes": peak()}), flush=True)
    os._exit(0)  # what a framework does while it ends is no part of its start


if __name__ == "__main__":
    first_answer(*sys.argv[1:])
