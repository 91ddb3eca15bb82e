"""Compile the C++ programs that lie here, and run them on arrays."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shipping.needs import ShippingError, require

HERE = Path(__file__).resolve().parent
PATIENCE = 300  # seconds for a compiler or a program
WORDS = {  # what each program is compiled with; a word in capitals stands for that package's folder
    "openvino_app": [
        *("-std=c++17", "-O1", "-IOPENVINO/include"),
        *("OPENVINO/libs/libopenvino.so.*", "-Wl,-rpath,OPENVINO/libs"),
    ],
    "aoti_app": [
        *("-std=c++20", "-O0", "-ITORCH/include", "-ITORCH/include/torch/csrc/api/include"),
        *("-LTORCH/lib", "-ltorch", "-ltorch_cpu", "-lc10", "-Wl,-rpath,TORCH/lib"),
    ],
}


def show(program: str) -> Any:
    """The source of a program, as a cell's output."""
    from IPython.display import Markdown

    return Markdown(f"```cpp\n{_source(program).read_text('utf-8')}```")


def command(program: str) -> list[str]:
    """The words that compile a program: OPENVINO and TORCH stand for the packages' folders."""
    source = _source(program)
    before = [word for word in WORDS[program] if word.startswith(("-std", "-O", "-I"))]
    after = [word for word in WORDS[program] if word not in before]  # libraries follow the source
    return ["g++", *before, source.name, *after, "-o", program]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within it, what C++ libraries write to this process's stderr is dropped."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class Program:
    """A C++ program of this folder, compiled in the background from the moment of its making.

    Called with a model's file and pictures (N, 1, 28, 28) float32 it gives logits (N, 10).
    """

    def __init__(self, name: str, folder: str | Path) -> None:
        self.name, self.path = name, Path(folder).resolve() / name
        words = [_real(word) for word in command(name)]
        compiler = os.environ.get("CXX") or shutil.which(words[0])
        if not compiler or not shutil.which(compiler):
            raise ShippingError(
                "There is no C++ compiler here: install g++ (Debian: apt install g++), or let the "
                "environment variable CXX name one."
            )
        self._log = self.path.with_suffix(".log")
        words = [compiler, *words[1:-1], str(self.path)]
        with self._log.open("w") as log:
            self._compiler = subprocess.Popen(
                words, cwd=HERE, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ready(self) -> Path:
        """Wait for the compiler; the program's path, or a `ShippingError` with its first error."""
        try:
            code = self._compiler.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.close()
            raise ShippingError(f"{self.name} wasn't compiled after {PATIENCE} s.") from None
        if code:
            lines = self._log.read_text(errors="replace").splitlines()
            first = next((line for line in lines if "error" in line), "\n".join(lines[-1:]))
            raise ShippingError(f"{self.name} can't be compiled: {first.split('/')[-1]}")
        return self.path

    def close(self) -> None:
        """End the compiler, if it still runs."""
        if self._compiler.poll() is None:
            self._compiler.kill()
            self._compiler.wait()

    def __call__(self, model: str | Path, pictures: Any) -> Any:
        """Logits (N, 10) of pictures (N, 1, 28, 28) float32, as the program writes them."""
        import numpy as np

        if pictures.dtype != np.float32 or pictures.shape[1:] != (1, 28, 28):
            raise ShippingError(
                f"The pictures are {pictures.dtype} {pictures.shape}: give float32 (N, 1, 28, 28)."
            )
        program = self.ready()
        with tempfile.TemporaryDirectory(prefix="shipping_") as folder:
            inward, outward = Path(folder, "pictures.bin"), Path(folder, "logits.bin")
            np.ascontiguousarray(pictures).tofile(inward)
            words = [program, Path(model).resolve(), inward, outward]
            try:
                done = subprocess.run(
                    words, capture_output=True, text=True, timeout=PATIENCE, errors="replace"
                )
            except subprocess.TimeoutExpired:
                raise ShippingError(f"{self.name} wasn't done after {PATIENCE} s.") from None
            if done.returncode:
                said = _said(done.stderr, done.returncode, folder)
                raise ShippingError(f"{self.name} failed: {said}")
            logits = np.fromfile(outward, np.float32)
        if logits.size != 10 * len(pictures):
            raise ShippingError(f"{self.name} gave {logits.size} numbers for {len(pictures)}.")
        return logits.reshape(-1, 10)


def _source(program: str) -> Path:
    if program not in WORDS:
        raise ShippingError(f"There is no program {program!r}: choose from {', '.join(WORDS)}.")
    return HERE / f"{program}.cpp"


def _real(word: str) -> str:
    """The word with the packages' folders in it, and with the one file that a * stands for."""
    for name in ("openvino", "torch"):
        if name.upper() in word:
            require(name)
            word = word.replace(name.upper(), str(Path(find_spec(name).origin).parent))
    if word.endswith("*"):
        path = Path(word)
        found = sorted(path.parent.glob(path.name))
        if not found:
            raise ShippingError(f"There is no {path.name} in the package: this needs Linux.")
        return str(found[-1])
    return word


def _said(stderr: str, code: int, folder: str) -> str:
    """What a program said of its failure, without the places in somebody else's source."""
    lines = [line.strip() for line in stderr.splitlines()]
    elsewhere = ("Exception from", "Check ", "FrontEnd API failed")
    lines = [line for line in lines if line and not line.startswith(elsewhere)]
    return (lines[0] if lines else f"status {code}").replace(f"{folder}/", "")
