"""Start ranks and bring back what they report; within a rank, join the others."""

import contextlib
import inspect
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PATIENCE = 240  # seconds that a rank waits for another before it gives up


class RanksError(Exception):
    """The ranks could not be started, or failed; the message is a sentence for the reader."""


def show(*parts: Any) -> Any:
    """The source of functions and classes of this package, as a cell's output."""
    from IPython.display import Markdown

    return Markdown("```python\n" + "\n\n".join(map(inspect.getsource, parts)) + "```")


# ---- in the process that starts the others ----


def command(
    script: str, *options: Any, ranks: int = 2, hosts: int = 1, restarts: int = 0, port: int = 29400
) -> list[str]:
    """The words of a command line that starts a script: as it is typed, on each host alike."""
    where = ["--standalone"]
    if hosts > 1:
        where = ["--nnodes", hosts, "--rdzv-backend", "c10d"]
        where += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "book"]
    words = ["torchrun", *where, "--nproc-per-node", ranks, "--max-restarts", restarts]
    return [str(word) for word in [*words, "-m", f"ranks.{script}", *options]]


def launch(
    script: str,
    data: dict[str, Any] | None = None,
    *options: Any,
    ranks: int = 2,
    hosts: int = 1,
    restarts: int = 0,
    timeout: float = 580,
) -> list[dict[str, Any]]:
    """Run `ranks.script` in `ranks` processes on each host; what each reported, by rank.

    `data` (tensors and plain values) reaches the script as a file, its first argument; `options`
    follow. Several `hosts` are played by several agents of torchrun on this one. A rank that dies
    is started anew, with all others, up to `restarts` times. After `timeout` seconds, or if a rank
    fails, all are ended, and a `RanksError` says why.
    """
    if not (HERE / f"{script}.py").is_file():
        raise RanksError(f"There is no script {script!r} in {HERE.name}/: see what lies there.")
    for name, value, least in (("ranks", ranks, 1), ("hosts", hosts, 1), ("restarts", restarts, 0)):
        if not isinstance(value, int) or value < least:
            raise RanksError(f"{name} is {value!r}: give a whole number from {least} on.")
    import torch

    with tempfile.TemporaryDirectory(prefix="ranks_") as folder:
        file = Path(folder, "data.pt")
        torch.save(data or {}, file)
        words = command(
            script, file, *options, ranks=ranks, hosts=hosts, restarts=restarts, port=_free_port()
        )
        run = [sys.executable, "-m", "torch.distributed.run", "--local-addr", "127.0.0.1"]
        words = [*run, *words[1:]]
        if hosts > 1:
            words[words.index("book")] = secrets.token_hex(8)
        failed = _run(words, hosts, Path(folder), timeout)
        if failed:
            raise RanksError(failed)
        found = sorted(Path(folder).glob("rank*.pt"), key=lambda path: int(path.stem[4:]))
        return [torch.load(path, weights_only=True) for path in found]


def _run(words: list[str], hosts: int, folder: Path, timeout: float) -> str:
    """Run one agent a host until all have ended. A sentence that says what failed, or nothing."""
    agents, end = [], time.monotonic() + timeout
    try:
        for host in range(hosts):
            with Path(folder, f"agent{host}.txt").open("w") as log:
                agents.append(
                    subprocess.Popen(
                        words,
                        env=_environment(),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        while any(agent.poll() is None for agent in agents):
            if time.monotonic() > end:
                return f"The ranks were not done after {timeout:g} s, and were ended."
            if any(agent.poll() for agent in agents):  # one failed: the others wait in vain
                end = min(end, time.monotonic() + 20)
            time.sleep(0.02)
        return _reason(folder) if any(agent.returncode for agent in agents) else ""
    finally:
        _end(agents, folder)


def _end(agents: list[subprocess.Popen], folder: Path) -> None:
    """See that no process is left: ask the agents to end their ranks, or else kill them all."""
    for agent in agents:
        if agent.poll() is None:
            agent.send_signal(signal.SIGTERM)
    stubborn = False
    for agent in agents:
        try:
            agent.wait(timeout=20)
        except subprocess.TimeoutExpired:
            stubborn = True
            agent.kill()
            agent.wait()
    for path in folder.glob("pid*") if stubborn else ():  # each in a session of its own
        with contextlib.suppress(ProcessLookupError, PermissionError, ValueError):
            if os.getpgid(pid := int(path.read_text())) == pid:
                os.killpg(pid, signal.SIGKILL)


def _reason(folder: Path) -> str:
    """What failed first, in a sentence."""
    errors = sorted(folder.glob("error*.txt"), key=lambda path: path.stat().st_mtime_ns)
    log = "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob("agent*.txt")))
    cause = re.search(r"Root Cause.*?rank\s*: (\d+).*?exitcode\s*: (-?\d+)", log, re.DOTALL)
    if cause and cause[2] == "-9":
        return f"Rank {cause[1]} was killed (SIGKILL)."
    usage = re.search(r"(?m)^\w+\.py: error: (.*)", log)
    if usage:
        return f"The script refuses its options: {usage[1]}"
    if errors:
        return f"Rank {errors[0].stem[5:]} failed: {errors[0].read_text()}"
    said = re.findall(r"(?m)^(?:\[\w+\]: *)?(\w+(?:Error|Exception): .*)", log)
    return f"The ranks could not be started: {said[-1] if said else log[-200:].strip()}"


def _environment() -> dict[str, str]:
    """This process's variables, with what ranks need and without what they must not inherit."""
    foreign = r"(TORCHELASTIC|TORCH_NCCL|MASTER|RANK|LOCAL_|GROUP_|ROLE_|WORLD_|PET_|MPLBACKEND)"
    ours = {key: value for key, value in os.environ.items() if not re.match(foreign, key)}
    path = [str(HERE.parent.parent), str(HERE.parent), os.environ.get("PYTHONPATH")]
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if loopback and "GLOO_SOCKET_IFNAME" not in ours:
        ours["GLOO_SOCKET_IFNAME"] = loopback[0]  # no host name is looked up, none needs to resolve
    return ours | {
        # Each start of the ranks gets a store of its own. Otherwise ranks that torchrun starts anew
        # find in the old one where the dead ones listened, and call in vain.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "KERAS_BACKEND": "torch",
        "BOOK_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        "RANKS_LAUNCHER": str(os.getpid()),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- in a rank ----


def _end_with(launcher: int) -> None:
    """End this process as soon as the one that launched it is gone, however it went."""
    while True:
        try:
            os.kill(launcher, 0)  # sends nothing, asks whether it is there
        except ProcessLookupError:
            os._exit(1)
        time.sleep(0.5)


@contextlib.contextmanager
def joined(data: Path) -> Iterator[Callable[..., None]]:
    """Within it this process is one of the ranks; gives the function that reports to `launch`.

    Warnings are errors. What is raised is noted beside the data file, for `launch` to tell.
    """
    import torch
    import torch.distributed as dist

    rank, folder = int(os.environ.get("RANK", 0)), Path(data).parent
    Path(folder, f"pid{rank}").write_text(str(os.getpid()))

    def report(**values: Any) -> None:
        torch.save(values, Path(folder, f"rank{rank}.pt"))

    if "RANKS_LAUNCHER" in os.environ:
        launcher = int(os.environ["RANKS_LAUNCHER"])
        threading.Thread(target=_end_with, args=[launcher], daemon=True).start()
    warnings.simplefilter("error")
    # Keras' own Variable.__array__ has not yet the signature of NumPy 2.
    warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE))
        yield report
        dist.barrier()  # nobody leaves while another still needs it
        dist.destroy_process_group()
    except Exception as error:
        first = str(error).split("\n")[0]
        Path(folder, f"error{rank}.txt").write_text(f"{type(error).__name__}: {first}")
        raise
