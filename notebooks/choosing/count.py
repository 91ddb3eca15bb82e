"""How long a piece of code is: lines, and pieces that don't depend on where lines are broken."""

import io
import tokenize
from functools import cache

__all__ = ["lines", "pieces"]

COUNTED = {tokenize.NAME, tokenize.NUMBER, tokenize.STRING, tokenize.OP}


def lines(code: str) -> int:
    """Lines that hold something, comments included.

    >>> lines("a = 1\\n\\nb = 2")
    2
    """
    return sum(bool(line.strip()) for line in code.splitlines())


@cache
def pieces(code: str) -> int:
    """Names, numbers, strings and signs: what a writer has to get right, however it is laid out.

    >>> pieces("f(x,\\n  y)") == pieces("f(x, y)") == 6
    True
    """
    read = io.StringIO(code).readline
    try:
        return sum(token.type in COUNTED for token in tokenize.generate_tokens(read))
    except (tokenize.TokenError, IndentationError) as error:
        raise ValueError(f"This isn't Python that can be counted: {error.args[0]}.") from None
