"""Keras chooses its backend when it is first imported: here it is PyTorch, as in every chapter."""

import os

os.environ["KERAS_BACKEND"] = "torch"
