"""Settings of the data and its augmentation, and the sizes of images."""

import dataclasses

from alexnet_tf.config.field import FOLDER_PATH, MEAN_PATH, PATH, setting


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Sizes of images and of the patches cropped from them."""

    image_size: int = 256  # Side of the square images [pixels].
    crop_size: int = 224  # Side of a patch [pixels].
    # Whether both sides of an image are resized to `image_size`, instead of
    # the shorter one, of which the center is kept.
    squash: bool = False
    # Whether JPEG files are turned upright.
    exif_orientation: bool = True
    # Larger image files are not decoded [pixels].
    max_image_pixels: int = 100_000_000

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """Shape of a patch."""
        return (self.crop_size, self.crop_size, 3)

    @property
    def offsets(self) -> int:
        """Number of positions of a patch along one axis."""
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
        "Name of a TFDS image classification data set, or folder:PATH for a "
        "folder of class folders. shapes is embedded and needs no download.",
        path=FOLDER_PATH,
    )
    data_dir: str = setting(
        "",
        "TFDS directory; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets.",
        path=PATH,
    )
    prepared_dir: str = setting(
        "",
        "Where prepare writes the resized --dataset and others read it.",
        path=PATH,
    )
    train_split: str = setting(
        "train",
        "Split to train on, in TFDS syntax such as train[:90%]; of a folder, "
        "the name of a folder in it.",
    )
    validation_split: str = setting(
        "",
        "Split that drives the plateau rule and the results; empty: the data "
        "set's validation split, or its test split if it has no other.",
    )
    image_size: int = setting(
        256, "Side of square images [pixels]. Sec. 2.", lower=4, upper=4096
    )
    resize: str = setting(
        "shorter_side",
        "How images become squares. shorter_side: resize that side, keep the "
        "center; squash: resize both, as for Caffe's networks. Sec. 2.",
        choices=("shorter_side", "squash"),
    )
    exif_orientation: bool = setting(
        True,
        "Turn JPEG files upright, as their EXIF orientation states. The tools "
        "of 2012 did not.",
    )
    max_image_pixels: int = setting(
        Geometry.max_image_pixels,
        "Image files of more pixels are bad images, and not decoded: a small "
        "file may have so many that they fill the memory [pixels].",
        lower=1,
    )
    crop_size: int = setting(
        224,
        "Side of the patch that the network sees: random in training, central "
        "in evaluation; at least 64 for all poolings of AlexNet [pixels]. Sec. "
        "4.1.",
        lower=4,
        upper=1024,
    )
    random_crop: bool = setting(
        True, "Train on random patches instead of the center one. Sec. 4.1."
    )
    horizontal_flip: bool = setting(
        True, "Mirror half of the training patches. Sec. 4.1."
    )
    augment_chunk: int = setting(
        1,
        "Consecutive images of a batch whose patches share position and "
        "mirroring; 32 in the 2012 source. Sec. 4.1.",
        lower=1,
    )
    mean: str = setting(
        "image",
        "Mean to subtract. image: of each pixel of the center patch, whatever "
        "the patch's position, as in the 2012 source; color: one for the whole "
        "image; FILE.binaryproto: a mean image measured by Caffe. Sec. 2.",
        path=MEAN_PATH,
    )
    color_noise: str = setting(
        "paper",
        "Principal component noise on training images. paper: eigenvalue times "
        "a Gaussian, on pixels in [0, 1], as printed; code_2012: square root "
        "of the eigenvalue, as in the 2012 source. Sec. 4.1.",
        choices=("paper", "code_2012", "off"),
    )
    color_noise_std: float = setting(
        0.1, "Standard deviation of that Gaussian. Sec. 4.1.", lower=0.0
    )
    color_noise_shrink: bool = setting(
        False,
        "Divide training images by 1 + color_noise_std after the noise, as in "
        "the 2012 source.",
    )
    statistics_images: int = setting(
        2000,
        "Training images to measure mean and colors on; prepare: all [images].",
        lower=1,
    )
    max_bad_fraction: float = setting(
        0.001,
        "Fraction of the training and validation examples that may be "
        "unusable before the run ends; five may be, unless it is 0. prepare "
        "and evaluate only report them.",
        lower=0.0,
        upper=1.0,
    )
    order: str = setting(
        "shuffled",
        "Order of the training images. shuffled: another one each epoch; "
        "fixed: shuffled once, so that each epoch has the same batches in the "
        "same order, as in the 2012 source. The images that do not fill a "
        "batch are then left out of every epoch, instead of others each time.",
        choices=("shuffled", "fixed"),
    )
    shuffle_buffer: int = setting(
        10000,
        "Encoded training images in the shuffle buffer of a data set that can "
        "only be read sequentially [images].",
        lower=1,
    )

    @property
    def geometry(self) -> Geometry:
        """The sizes of the patches."""
        squash = self.resize == "squash"
        return Geometry(
            *(self.image_size, self.crop_size, squash),
            *(self.exif_orientation, self.max_image_pixels),
        )
