"""What must be installed, and the error that says so."""

from importlib.util import find_spec


class ShippingError(Exception):
    """Something can't be built, run or trusted; the message is a sentence for the reader."""


def require(*packages: str) -> None:
    """See that these packages are installed; or a `ShippingError` that says how to get them."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ShippingError(
            f'This needs {" and ".join(missing)}: run `pip install -e ".[ship]"` in the book\'s '
            "folder, and restart the kernel."
        )
