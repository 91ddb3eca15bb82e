"""`python -m service model.onnx`: serve until a signal says to end."""

import sys

from service.server import main

if __name__ == "__main__":
    sys.exit(main())
