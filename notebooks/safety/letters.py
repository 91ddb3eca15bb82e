"""Letters, drawn as the digits of MNIST are: 28 x 28, in the middle, a little turned."""

from pathlib import Path

import numpy as np

ALPHABET = "ABCDEFGHJKMNPRTUVWXY"  # without I, L, O, Q, S, Z, which could be digits


def letters(n: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """`n` pictures (n, 28, 28, 1), float32 from 0 to 1, and which letters they are."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    if n < 1:
        raise ValueError(f"{n} letters: give a whole number from 1 on.")
    rng = np.random.default_rng(seed)
    file = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    fonts = [ImageFont.truetype(str(file), size) for size in range(34, 45)]
    pictures, drawn = [], []
    for _ in range(n):
        letter = ALPHABET[rng.integers(len(ALPHABET))]
        image = Image.new("L", (56, 56))  # twice the size, and shrunk: smooth as a scan
        font = fonts[rng.integers(len(fonts))]
        ImageDraw.Draw(image).text((28, 28), letter, 255, font=font, anchor="mm")
        image = image.rotate(float(rng.uniform(-15, 15)))
        ink = np.asarray(image, dtype="float32").reshape(28, 2, 28, 2).mean(axis=(1, 3)) / 255
        pictures.append(ink)
        drawn.append(letter)
    return np.stack(pictures)[..., None], drawn
