"""The small package that every chapter imports, one module to a job.

`data` brings MNIST from wherever it can be had, `device` says what the chapter runs on,
`parity` copies weights between Keras and PyTorch (`pairing` knows which is which) and proves two
networks equal, and `plots` draws in one style. Importing the package does no work.
"""

__all__ = ["data", "device", "pairing", "parity", "plots"]
