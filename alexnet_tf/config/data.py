"""The settings of the data."""

import dataclasses

from alexnet_tf.config.field import setting
from alexnet_tf.config.geometry import Geometry


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
        "centre one in evaluation; below 64 nothing is left after the last "
        "pooling [pixels]. Sec. 4.1.",
        lower=64,
        upper=1024,
    )
    random_crop: bool = setting(
        True, "Train on patches at random places, not the centre. Sec. 4.1."
    )
    horizontal_flip: bool = setting(
        True, "Mirror half of the training patches. Sec. 4.1."
    )
    mean: str = setting(
        "image",
        "Mean that is subtracted from the pixels. image: of each pixel of the "
        "centre patch, whatever the patch's place, as the 2012 source does; "
        "colour: one for the whole image; FILE.binaryproto: a mean image that "
        "Caffe measured. Sec. 2.",
    )
    colour_noise: str = setting(
        "paper",
        "Principal component noise added to each training image. paper: "
        "eigenvalue times a Gaussian, on pixels in [0, 1], as printed; "
        "code_2012: its square root instead, as the 2012 source does. "
        "Sec. 4.1.",
        choices=("paper", "code_2012", "off"),
    )
    colour_noise_std: float = setting(
        0.1, "Standard deviation of that Gaussian. Sec. 4.1.", lower=0.0
    )
    colour_noise_shrink: bool = setting(
        False,
        "Divide training images by 1 + colour_noise_std after the noise, as "
        "the 2012 source does; without noise nothing is divided.",
    )
    statistics_images: int = setting(
        2000,
        "Training images that the mean and the colour components are measured "
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
