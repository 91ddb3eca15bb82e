"""Where the results of the benchmarks lie, and whether their code has changed since."""

import hashlib
import importlib
import json
import os
import platform
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEASURED = ROOT / "notebooks" / "measured"
TOOLS = {"__init__", "__main__", "interleaved", "store"}


def names() -> list[str]:
    """The benchmarks: the modules beside this one that have a `run`."""
    return sorted(
        path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in TOOLS
    )


def digest(name: str) -> str:
    """SHA-256 of the code that a result follows from.

    That is the benchmark's module, what times it, and the packages beside the chapters that it
    imports.
    """
    here = Path(__file__).parent
    files = [here / f"{name}.py", here / "interleaved.py"]
    source = files[0].read_text("utf-8")
    for package in sorted((ROOT / "notebooks").glob("*/__init__.py")):
        if re.search(rf"(?m)^\s*(import|from) {package.parent.name}\b", source):
            files += sorted(package.parent.glob("*.py")) + sorted(package.parent.glob("*.cpp"))
    parts = [[path.name, path.read_text("utf-8")] for path in files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def machine() -> dict:
    """What a result was measured on."""
    import torch

    from helpers import device

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"model name\s*: (.*)", cpuinfo.read_text())
        model = found[1] if found else model
    return {
        "device": device.name(),
        "processor": model,
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": device.versions(),
    }


def run(name: str) -> Path:
    """Run one benchmark and store its results; if it fails, the old ones stay."""
    code = digest(name)
    results = importlib.import_module(f"tools.bench.{name}").run()
    record = {"benchmark": name, "digest": code, "machine": machine(), "results": results}
    path = MEASURED / f"{name}.json"
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path
