"""What takes longer than a chapter may: `make bench`, or `make bench BENCH="steps to99"`.

Each module here is one benchmark. Its `run()` prints its tables and returns what it measured, as
numbers, texts, lists and dictionaries. That is stored in `notebooks/measured/NAME.json`, with the
machine, the versions and a digest of the code, and the chapters draw their figures from there.
"""

from tools.bench.interleaved import interleave, ratios, table

__all__ = ["interleave", "ratios", "table"]
