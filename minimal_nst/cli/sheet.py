"""The sheet on which Figure 1's pictures are laid out, each above what it was made from."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..reconstruction import FIGURE_1

GAP = 4  # pixels between two pictures


class Sheet:
    """Two rows of five pictures, and that which they are made of to their left.

    Parameters
    ----------
    picture : (H, W, 3) array of uint8
        All others have its size.
    """

    def __init__(self, picture: np.ndarray) -> None:
        self.high, self.wide = picture.shape[:2]
        self.text = max(10, self.wide // 14)  # height of the captions
        columns = 1 + max(map(len, FIGURE_1.values()))
        size = columns * (self.wide + GAP) - GAP, len(FIGURE_1) * self._step
        self.image = Image.new("RGB", size, "white")
        self._put(picture, 0, (size[1] - self._step) // 2, "the picture")

    def add(self, row: str, layers: str, picture: np.ndarray) -> None:
        """Put a picture into its place.

        Parameters
        ----------
        row : {'style', 'content'}
        layers : str
            One of the row's in `reconstruction.FIGURE_1`.
        picture : (H, W, 3) array of uint8
        """
        column = FIGURE_1[row].index(layers)
        *before, last = layers.split(",")
        caption = f"{row}: {'up to ' if before else ''}{last}"
        top = list(FIGURE_1).index(row) * self._step
        self._put(picture, (1 + column) * (self.wide + GAP), top, caption)

    @property
    def array(self) -> np.ndarray:
        """The sheet so far: (H, W, 3) array of uint8."""
        return np.array(self.image)

    @property
    def _step(self) -> int:
        """From one row to the next."""
        step: int = self.high + 2 * self.text
        return step

    def _put(self, picture: np.ndarray, left: int, top: int, caption: str) -> None:
        self.image.paste(Image.fromarray(picture), (left, top))
        middle = left + self.wide / 2, top + self.high + self.text / 3
        font = ImageFont.load_default(self.text)
        ImageDraw.Draw(self.image).text(middle, caption, "black", font, anchor="ma")
