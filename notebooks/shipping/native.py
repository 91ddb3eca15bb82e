"""Compile the C++ programs that lie here, and run them on arrays."""

import contextlib
import os
import re
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


def show(name: str) -> Any:
    """A source of this folder, as a cell's output."""
    from IPython.display import Markdown

    kind = "cpp" if name.endswith(".cpp") else "python"
    return Markdown(f"```{kind}\n{(HERE / name).read_text('utf-8')}```")


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


class Job:
    """A command that makes one file, at work in the background from the moment of its making."""

    def __init__(self, words: list[Any], target: Path) -> None:
        self.target, self._log = target, target.with_name(f"{target.name}.log")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                list(map(str, words)), cwd=HERE, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ready(self) -> Path:
        """Wait; the file, or a `ShippingError` with the first error."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.close()
            raise ShippingError(f"{self.target.name} wasn't made after {PATIENCE} s.") from None
        if code or not self.target.exists():
            lines = self._log.read_text(errors="replace").splitlines()
            found = [line for line in lines if re.search(r"[Ee]rror:", line)] or lines[-1:]
            first = found[0].split("/")[-1] if found else f"status {code}"
            raise ShippingError(f"{self.target.name} can't be made: {first}")
        return self.target

    def close(self) -> None:
        """End it, if it is still at work."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def compile_ahead(exported: str | Path, package: str | Path) -> Job:
    """Begin to compile an exported program's file to a package, in a process of its own."""
    _compiler("g++")
    words = [sys.executable, "-W", "ignore", HERE / "compile_ahead.py"]
    package = Path(package).resolve()
    return Job([*words, Path(exported).resolve(), package], package)


class Program(Job):
    """A C++ program of this folder.

    Called with a model's file and pictures (N, 1, 28, 28) float32 it gives logits (N, 10).
    """

    def __init__(self, name: str, folder: str | Path) -> None:
        words = [_real(word) for word in command(name)]
        target = Path(folder).resolve() / name
        super().__init__([_compiler(words[0]), *words[1:-1], target], target)

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
                raise ShippingError(f"{self.target.name} wasn't done after {PATIENCE} s.") from None
            if done.returncode:
                said = _said(done.stderr, done.returncode, folder)
                raise ShippingError(f"{self.target.name} failed: {said}")
            logits = np.fromfile(outward, np.float32)
        if logits.size != 10 * len(pictures):
            told = f"{logits.size} numbers for {len(pictures)} pictures"
            raise ShippingError(f"{self.target.name} gave {told}.")
        return logits.reshape(-1, 10)


def _compiler(usual: str) -> str:
    """The C++ compiler, or a `ShippingError` that says how to get one."""
    compiler = os.environ.get("CXX") or usual
    if not shutil.which(compiler):
        raise ShippingError(
            "There is no C++ compiler here: install g++ (Debian: apt install g++), or let the "
            "environment variable CXX name one."
        )
    return compiler


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
