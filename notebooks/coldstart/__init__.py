"""Chapter 28's two whole programs, which `make bench BENCH=first` times from a cold start.

`python -m coldstart.programs keras` (or `torch`) runs one. Nothing is imported here, so that the
clock sees each framework's own import.
"""
