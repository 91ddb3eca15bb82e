"""What chapter 17 needs beside its page: C++ programs that run a model, and model cards.

`Program` compiles one of the sources that lie here (`openvino_app.cpp`, `aoti_app.cpp`) and runs
it; `compile_ahead` makes a package of an exported program; both work in the background. `card`
writes what is known of a file beside it, and `check` refuses a file that isn't the one that its
card tells of. Nothing here imports PyTorch or OpenVINO before it is needed.
"""

from shipping.cards import card, check, digest
from shipping.native import Program, command, compile_ahead, quiet, show
from shipping.needs import ShippingError, require

__all__ = [
    "Program",
    "ShippingError",
    "card",
    "check",
    "command",
    "compile_ahead",
    "digest",
    "quiet",
    "require",
    "show",
]
