"""Run the chapters, and check their form. Nothing here imports Keras or PyTorch.

    python -m tools.notebooks run [paths...]      execute in place, clean, stamp
    python -m tools.notebooks check [paths...]    print every problem

Without paths, both take all of `notebooks/`.
"""

import argparse
import base64
import io
import json
import os
import sys
import time
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import v4
from PIL import Image, ImageChops, ImageStat

from tools.chapter import ROOT, ChapterError, clean, digest, dumps, load, where
from tools.form import problems

LONGEST = 60.0  # seconds that a chapter may take on two CPU cores, whichever they are
TIMEOUT = 600  # seconds after which a cell is given up
PROBE = """# What the chapter ran on: a last cell, which isn't stored.
import json
import os
from helpers import device
cpu = sum(os.times()[:4])  # its own and its children's
print(json.dumps({"device": device.name(), "versions": device.versions(), "cpu": round(cpu, 1)}))"""


def run(path: Path, root: Path = ROOT) -> dict:
    """Execute a chapter in a fresh kernel, clean and stamp it, replace the file; return the stamp.

    The kernel is this interpreter's own, whatever kernels the user has registered. If a cell
    raises, `ChapterError` says which, and the file stays as it was.
    """
    nb = load(path)
    clean(nb)
    nb.cells.append(v4.new_code_cell(PROBE))
    starts: list[float] = []  # when each cell started
    client = NotebookClient(
        nb,
        km=AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[])),
        timeout=TIMEOUT,
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # what a kernel says of itself
        on_cell_start=lambda cell, cell_index: starts.append(time.perf_counter()),
    )
    search = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"KERAS_BACKEND": "torch", "PYTHONPATH": search}
    env.pop("MPLBACKEND", None)  # figures go into the page
    try:
        client.execute(cleanup_kc=True, env=env, cwd=str(path.resolve().parent))
    except CellExecutionError as error:
        reason = f"raised {error.ename}: {error.evalue}".split("\n")[0].rstrip(".: ")
    except CellTimeoutError:
        reason = f"took more than {TIMEOUT} s"
    except DeadKernelError:
        reason = "killed the kernel"
    else:
        reason = ""
    if reason:
        here = where(path, nb, len(starts) - 1 if starts else None)
        raise ChapterError(f"{here} {reason}. The file is unchanged.")
    stamp = json.loads(next(o.text for o in nb.cells.pop().outputs if o.get("name") == "stdout"))
    stamp |= {"digest": digest(nb, root), "seconds": round(starts[-1] - starts[0], 1)}
    nb.metadata.stamp = stamp
    for output in (output for cell in nb.cells for output in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = smaller(output.data["image/png"])
    clean(nb)
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(dumps(nb), encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return stamp


def smaller(png: str) -> str:
    """A figure in at most 256 colours, if that looks the same: a third of the bytes.

    Takes and returns base64. A figure has few colours and the steps between them. Where 256 don't
    do, so that pixels are off by more than a twentieth of one of 255 levels in the mean, it is
    returned as it came.
    """
    full = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    few = full.quantize(256, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
    off = ImageStat.Stat(ImageChops.difference(full, few.convert("RGB"))).mean
    out = io.BytesIO()
    few.save(out, "PNG", optimize=True)
    packed = base64.b64encode(out.getvalue()).decode()
    return packed if max(off) < 0.05 and len(packed) < len(png) else png


def chapters(paths: list[Path]) -> list[Path]:
    """The notebooks that the paths name; a folder stands for those in it."""
    found = []
    for path in paths:
        inside = sorted(path.glob("*.ipynb")) if path.is_dir() else [path]
        if not inside:
            raise ChapterError(f"{path}: there are no notebooks in this folder.")
        found += inside
    return found


def demand_mnist(paths: list[Path]) -> None:
    """Refuse to store outputs made on the stand-in: pages show the real MNIST."""
    from helpers.data import load_mnist

    users = [path.name for path in paths if "load_mnist" in path.read_text(encoding="utf-8")]
    if users and not load_mnist().is_mnist:
        raise ChapterError(
            f"{users[0]} is stored as run on the real MNIST: set BOOK_DATA to the folder that "
            "holds mnist.npz."
        )


def main(argv: list[str] | None = None) -> int:
    """Run or check the named chapters; 0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__)
    parser.add_argument("action", choices=["run", "check"])
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / "notebooks"])
    args = parser.parse_args(argv)
    failed = False
    try:
        paths = chapters(args.paths)
        if args.action == "run":
            demand_mnist([path for path in paths if path.is_file()])
    except ChapterError as error:
        print(error, file=sys.stderr)
        return 1
    for path in paths:
        if args.action == "check":
            found = problems(path)
            print(*found, sep="\n", end="\n" if found else "")
            failed |= bool(found)
            continue
        try:
            stamp = run(path)
        except ChapterError as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        print(f"{path.name}: {stamp['seconds']} s on {stamp['device']}", flush=True)
        if stamp["seconds"] >= LONGEST:
            # Written all the same: the outputs are true, and the tests hold the stamp to the limit.
            print(f"{path.name} took {stamp['seconds']} s, and may take {LONGEST:.0f}: shorten it.")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
