"""Energy in joules, as the machine's own counters tell it; and the reason, where they don't.

Linux shows the counters of Intel's and AMD's processors (RAPL) as files, below
/sys/class/powercap: microjoules since some moment, which begin again at 0 when they are full.
NVIDIA's library NVML counts millijoules for each GPU.
"""

import time
from pathlib import Path
from types import ModuleType
from typing import Any

from groups.needs import GroupsError

POWERCAP = Path("/sys/class/powercap")
MOST_WATTS = 2000  # more than one processor takes: a counter that could wrap twice is refused


class Meter:
    """Counts joules from the moment that it is made; `read` gives what was used since then.

    `names` lists the counters, and is empty where the machine shows none; `why` then says why.
    `root` and `nvml` are there for tests. A counter may wrap once between two readings: where it
    could have wrapped twice, `read` refuses, so read at least every few minutes.
    """

    def __init__(self, root: Path = POWERCAP, nvml: ModuleType | Any = None) -> None:
        self.names: list[str] = []
        self._ranges: list[float] = []  # joules, where the counter begins again
        self._readers: list[Any] = []
        reasons = [self._find_processors(Path(root)), self._find_gpus(nvml)]
        self.why = "" if self.names else "; ".join(reasons) + "."
        self._last, self._when = [reader() for reader in self._readers], time.monotonic()
        self._used = [0.0] * len(self.names)

    def _find_processors(self, root: Path) -> str:
        """Whole packages only: their cores and caches are counted in them already."""
        zones = sorted(root.glob("*-rapl:*")) if root.is_dir() else []
        zones = [zone for zone in zones if zone.name.count(":") == 1]
        if not zones:
            return "no counter of the processor (RAPL) is shown"
        hidden = 0
        for zone in zones:
            try:
                name = (zone / "name").read_text().strip()
                if not name.startswith("package"):
                    continue  # psys counts the whole board, packages and all
                full = int((zone / "max_energy_range_uj").read_text()) / 1e6
                int((zone / "energy_uj").read_text())
            except PermissionError:
                hidden += 1
                continue
            except (OSError, ValueError):
                continue
            self.names.append(f"processor, {name}")
            self._ranges.append(full)
            self._readers.append(lambda file=zone / "energy_uj": int(file.read_text()) / 1e6)
        if hidden:
            return "the counters of the processor (RAPL) may be read by root only"
        return "no counter of the processor (RAPL) can be read"

    def _find_gpus(self, nvml: Any) -> str:
        try:
            if nvml is None:
                import pynvml as nvml
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
        except Exception:  # there is no library, no driver, or no GPU
            return "no GPU can be asked (NVML)"
        for i in range(count):
            handle = nvml.nvmlDeviceGetHandleByIndex(i)

            def read(handle: Any = handle) -> float:
                return nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3

            try:
                read()
            except Exception:  # an old GPU, which doesn't count
                continue
            self.names.append(f"GPU {i}")
            self._ranges.append(float("inf"))
            self._readers.append(read)
        return "no GPU counts its energy (NVML)"

    def read(self) -> dict[str, float]:
        """Joules since the start, by counter."""
        if not self.names:
            raise GroupsError(f"Nothing here counts energy: {self.why}")
        now = time.monotonic()
        for i, reader in enumerate(self._readers):
            if (now - self._when) * MOST_WATTS > self._ranges[i]:
                raise GroupsError(
                    f"{self.names[i]} may have wrapped more than once: read it more often."
                )
            value = reader()
            step = value - self._last[i]
            if step < 0 and self._ranges[i] == float("inf"):
                raise GroupsError(f"{self.names[i]} ran backwards: its driver was restarted.")
            self._used[i] += step if step >= 0 else step + self._ranges[i]
            self._last[i] = value
        self._when = now
        return dict(zip(self.names, self._used, strict=True))
