"""Settings of the data and its augmentation, and the sizes of images."""

import dataclasses

from alexnet_tf.config.field import setting


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
    def center(self) -> tuple[int, int]:
        """Offset (down, right) of the center patch [pixels]."""
        half = (self.image_size - self.crop_size) // 2
        return (half, half)

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Offsets of the four corner patches [pixels]."""
        last = self.offsets - 1
        return [(0, 0), (0, last), (last, 0), (last, last)]

    def cut_center(self, image):
        """Returns the center patch of an array (image_size, image_size, 3)."""
        down, right = self.center
        return image[down:, right:][: self.crop_size, : self.crop_size]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Data and augmentation (Sec. 2 and 4.1)."""

    dataset: str = setting(
        "shapes",
        "A TFDS image classification data set by name, or folder:PATH for a "
        "folder of class folders. shapes is embedded and needs no network.",
    )
    data_dir: str = setting(
        "",
        "Where TFDS keeps data sets; empty: $TFDS_DATA_DIR, or "
        "~/tensorflow_datasets.",
    )
    prepared_dir: str = setting(
        "",
        "Directory into which the command prepare writes --dataset, rescaled; "
        "the other commands read it there if it is there.",
    )
    train_split: str = setting("train", "Split to train on, TFDS syntax.")
    validation_split: str = setting(
        "",
        "Split that drives the plateau rule and the results; empty: the data "
        "set's validation split, or its test split if it has no other.",
    )
    image_size: int = setting(
        256,
        "Side of the square that images become [pixels]. Sec. 2.",
        lower=64,
        upper=4096,
    )
    resize: str = setting(
        "shorter_side",
        "How images become a square. shorter_side: their shorter side is "
        "rescaled to its side and the central square kept; squash: both sides "
        "are rescaled to it, as for Caffe's published networks. Sec. 2.",
        choices=("shorter_side", "squash"),
    )
    crop_size: int = setting(
        224,
        "Square patch that the network sees, at random in training and the "
        "center one in evaluation; below 64 nothing is left after the last "
        "pooling [pixels]. Sec. 4.1.",
        lower=64,
        upper=1024,
    )
    random_crop: bool = setting(
        True, "Train on patches at random places, not the center. Sec. 4.1."
    )
    horizontal_flip: bool = setting(
        True, "Mirror half of the training patches. Sec. 4.1."
    )
    mean: str = setting(
        "image",
        "Mean that is subtracted from the pixels. image: of each pixel of the "
        "center patch, whatever the patch's place, as the 2012 source does; "
        "color: one for the whole image; FILE.binaryproto: a mean image that "
        "Caffe measured. Sec. 2.",
    )
    color_noise: str = setting(
        "paper",
        "Principal component noise added to each training image. paper: "
        "eigenvalue times a Gaussian, on pixels in [0, 1], as printed; "
        "code_2012: its square root instead, as the 2012 source does. "
        "Sec. 4.1.",
        choices=("paper", "code_2012", "off"),
        alias="colour_noise",
    )
    color_noise_std: float = setting(
        0.1,
        "Standard deviation of that Gaussian. Sec. 4.1.",
        lower=0.0,
        alias="colour_noise_std",
    )
    color_noise_shrink: bool = setting(
        False,
        "Divide training images by 1 + color_noise_std after the noise, as "
        "the 2012 source does; without noise nothing is divided.",
        alias="colour_noise_shrink",
    )
    statistics_images: int = setting(
        2000,
        "Training images that the mean and the color components are measured "
        "on; with --prepared_dir all, by prepare [images].",
        lower=1,
    )
    max_bad_fraction: float = setting(
        0.001,
        "Share of the training and validation examples that may turn out to "
        "be unusable; more end the run. prepare and evaluate count and name "
        "them only.",
        lower=0.0,
        upper=1.0,
    )
    shuffle_buffer: int = setting(
        10000,
        "Encoded training images held for shuffling a data set that can only "
        "be read in order [images].",
        lower=1,
    )

    @property
    def geometry(self) -> Geometry:
        """The sizes of the patches."""
        return Geometry(
            self.image_size, self.crop_size, self.resize == "squash"
        )
