"""A search in a process of its own, and its end by SIGKILL at a place that is named."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from searches.study import SearchError

HERE = Path(__file__).resolve().parent


def prepare(folder: Path, data: dict[str, np.ndarray]) -> Path:
    """Put the pictures where a child finds them; the path of the study's file beside them."""
    np.savez(Path(folder, "data.npz"), **data)
    return Path(folder, "study.log")


def kill_at(
    path: Path, trials: int, seed: int, trial: int, epoch: int, patience: float = 300
) -> int:
    """Run the search in a child, and kill it as it stands after `epoch` of `trial`; its exit code.

    The child says after each epoch where it stands and waits for leave to go on, so it can't be
    anywhere else. Where it ends before that, or says nothing for `patience` seconds, that is told.
    """
    words = [sys.executable, "-m", "searches.worker", str(path), str(trials), str(seed)]
    way = [str(HERE.parent.parent), str(HERE.parent), os.environ.get("PYTHONPATH")]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, way)),
        "OMP_NUM_THREADS": "1",
    }
    with subprocess.Popen(
        words, env=env, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            while True:
                watch = threading.Timer(patience, process.kill)
                watch.start()
                line = process.stdout.readline()
                watch.cancel()
                if line.split() == [str(trial), str(epoch)]:
                    process.kill()
                    return process.wait()
                if not line:
                    break
                with contextlib.suppress(BrokenPipeError):  # it may just have died
                    process.stdin.write("go on\n")
            said = process.stderr.read().strip().splitlines()[-1:] or ["nothing"]
            process.wait()
        finally:
            process.kill()
    raise SearchError(
        f"The child ended (exit code {process.returncode}) before epoch {epoch} of trial {trial}; "
        f"its last words: {said[0]}"
    )
