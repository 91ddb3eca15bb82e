"""What one client may take of the service."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Each is an option of the command line, too: `--body-bytes` and so on."""

    body_bytes: int = 2**17  # 8 pictures of 784 numbers, 20 characters each
    body_seconds: float = 5.0  # from a request's head to the last byte of its body
    head_seconds: float = 5.0  # for a request's head, or between two requests
    connections: int = 64  # that are open
    waiting: int = 8  # requests that the model has, or that wait for it
    end_seconds: int = 8  # that requests in flight get when the service ends

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}: give a positive number.")
