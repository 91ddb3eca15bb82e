"""Run the benchmarks that are named, or all, and store what they measure."""

import argparse
import os
import sys

from tools.bench import store


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(store.names())}; all if none")
    names = parser.parse_args(argv).names or store.names()
    unknown = sorted(set(names) - set(store.names()))
    if unknown:
        print(
            f"There is no benchmark {unknown[0]!r}: choose from {', '.join(store.names())}.",
            file=sys.stderr,
        )
        return 1
    os.environ["KERAS_BACKEND"] = "torch"
    from helpers import device

    print(device.stamp(), flush=True)
    for name in names:
        path = store.run(name)
        print(f"\n{name}: stored in {path.relative_to(store.ROOT)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
