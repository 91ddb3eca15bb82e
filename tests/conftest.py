"""Every test starts alike: PyTorch as Keras' backend, the same seeds, and a clean global state."""

import os
from importlib.util import find_spec

import pytest

os.environ["KERAS_BACKEND"] = "torch"  # Keras chooses when it is first imported

# The tests in a browser need one, and a rendered book: `make test-browser`.
collect_ignore = [] if find_spec("playwright") else ["test_book.py"]


@pytest.fixture(autouse=True)
def alike(request):
    """Seed both frameworks before a test, and see that it leaves their settings alone."""
    room = request.module.__name__.rpartition(".")[2]
    users = "parity", "networks", "device", "training", "ledger", "steps"
    if room not in {f"test_{name}" for name in users} and "detection" not in room:
        yield  # the others use neither framework
        return
    import keras
    import torch

    def settings():
        return (
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.get_default_device(),
            keras.config.floatx(),
            keras.config.dtype_policy().name,
        )

    keras.utils.set_random_seed(0)
    before = settings()
    yield
    assert settings() == before


def pytest_terminal_summary(terminalreporter):
    """Print what tests that passed have measured: they say `record_property("figures", text)`."""
    for report in terminalreporter.getreports("passed"):
        for text in (value for name, value in report.user_properties if name == "figures"):
            terminalreporter.section("figures", sep="-")
            terminalreporter.line(f"{report.nodeid}\n{text}")
