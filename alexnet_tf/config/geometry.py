"""The sizes of images and of the patches of them (Sec. 2, 4.1)."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The sizes that define patches.

    Args:
        image_size: Side of the square that images become [pixels].
        crop_size: Side of a patch of it [pixels].
        squash: Whether the whole image becomes the square, whatever its
            sides, and not its central square.
    """

    image_size: int = 256
    crop_size: int = 224
    squash: bool = False

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """Shape of a patch."""
        return (self.crop_size, self.crop_size, 3)

    @property
    def offsets(self) -> int:
        """Number of places a patch can have along one axis."""
        return self.image_size - self.crop_size + 1

    @property
    def centre(self) -> tuple[int, int]:
        """Offset (down, right) of the centre patch [pixels]."""
        half = (self.image_size - self.crop_size) // 2
        return (half, half)

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Offsets of the four corner patches [pixels]."""
        last = self.offsets - 1
        return [(0, 0), (0, last), (last, 0), (last, last)]

    def cut_centre(self, image: np.ndarray) -> np.ndarray:
        """Returns the centre patch of an array (image_size, image_size, 3)."""
        down, right = self.centre
        return image[down:, right:][: self.crop_size, : self.crop_size]
