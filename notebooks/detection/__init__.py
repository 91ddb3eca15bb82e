"""A small Faster R-CNN, built twice: what chapter 20 builds in parts, and chapter 21 puts together.

`scenes` draws pictures with digits to be found, `parts` is each formula in NumPy, `torch_parts` and
`keras_parts` are the same functions in both frameworks, `torch_net` and `keras_net` are the two
networks, `metric` judges what they find. Boxes are (left, top, right, bottom) in pixels; a pixel is
a square with corners at whole numbers, so a box from 3 to 5 covers the pixels 3 and 4.
"""

__all__ = ["keras_net", "keras_parts", "metric", "parts", "scenes", "torch_net", "torch_parts"]
