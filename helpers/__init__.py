"""The small package that every chapter imports, one module to a job.

`data` brings MNIST from wherever it can be had, `device` says what the chapter runs on,
`parity` copies weights between Keras and PyTorch (`pairing` lays the two models side by side,
`kinds` says what answers what) and proves two networks equal, `plots` draws in one style,
`training` is the loop that chapter 7 writes by hand. Importing the package does no work.
"""

__all__ = ["data", "device", "kinds", "pairing", "parity", "plots", "training"]
