"""The table of settings: type, default, help, unit, bounds, paper section.

Each setting stands here once and nowhere else; `config.py` makes flags of
them. Section numbers are those of Krizhevsky, Sutskever and Hinton, "ImageNet
Classification with Deep Convolutional Neural Networks", 2012.
"""

import dataclasses


def setting(default, text, *, lower=None, upper=None, choices=None):
    """Declares a field: its default, help text and bounds."""
    metadata = {
        "help": text,
        "lower": lower,
        "upper": upper,
        "choices": choices,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Data and augmentation (Sec. 2 and 4.1)."""

    dataset: str = setting(
        "shapes",
        "A TFDS image classification data set by name, or folder:PATH for a "
        "folder of class folders. shapes is embedded and needs no network.",
    )
    data_dir: str = setting(
        "", "Where TFDS keeps data sets; empty: ~/tensorflow_datasets."
    )
    train_split: str = setting("train", "Split to train on, TFDS syntax.")
    validation_split: str = setting(
        "",
        "Split that drives the plateau rule and the results; empty: the data "
        "set's validation split, or its test split if it has no other.",
    )
    image_size: int = setting(
        256,
        "Images are rescaled to this shorter side and their central square is "
        "kept [pixels]. Sec. 2.",
        lower=64,
    )
    crop_size: int = setting(
        224,
        "Square patch that the network sees, at random in training and the "
        "centre one in evaluation; below 64 nothing is left after the last "
        "pooling [pixels]. Sec. 4.1.",
        lower=64,
    )
    horizontal_flip: bool = setting(
        True, "Mirror half of the training patches. Sec. 4.1."
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
    statistics_images: int = setting(
        2000,
        "Training images that the mean colour and the colour components are "
        "measured on [images].",
        lower=1,
    )
    shuffle_buffer: int = setting(
        10000,
        "Encoded training images held for shuffling [images].",
        lower=1,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """The network (Sec. 3 and Figure 2)."""

    towers: int = setting(
        2,
        "Towers the kernels are divided among; 1 is the network without the "
        "split. Sec. 3.2.",
        lower=1,
    )
    width: float = setting(
        1.0,
        "Factor on the kernel and neuron counts of all hidden layers; the "
        "initial weights of conv2..fc8 grow by 1 / sqrt(width).",
        lower=0.01,
        upper=4.0,
    )
    lrn_size: int = setting(
        5,
        "n, the kernel maps a response is normalised over. Sec. 3.3.",
        lower=1,
    )
    lrn_k: float = setting(2.0, "k of the normalisation. Sec. 3.3.", lower=0.0)
    lrn_alpha: float = setting(
        1e-4,
        "alpha of the normalisation, not divided by n; the 2012 source "
        "divides, which makes it 2e-5. Sec. 3.3.",
        lower=0.0,
    )
    lrn_beta: float = setting(
        0.75, "beta of the normalisation. Sec. 3.3.", lower=0.0
    )
    dropout_rate: float = setting(
        0.5,
        "Share of fc6 and fc7 outputs set to zero in training; outputs are "
        "multiplied by the rest at test time. Sec. 4.2.",
        lower=0.0,
        upper=0.99,
    )
    initialisation: str = setting(
        "paper",
        "Initial weights. paper: N(0, 0.01) in each layer; code_2012: 0.03 in "
        "conv3, conv4 and conv5, as in the 2012 source. Sec. 5.",
        choices=("paper", "code_2012"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Training (Sec. 5)."""

    batch_size: int = setting(
        128, "Images a step, over all replicas [images]. Sec. 5.", lower=1
    )
    epochs: int = setting(
        90, "Passes over the training set, at most [epochs]. Sec. 5.", lower=1
    )
    learning_rate: float = setting(
        0.01, "Learning rate at the start. Sec. 5.", lower=0.0
    )
    momentum: float = setting(0.9, "Momentum. Sec. 5.", lower=0.0, upper=1.0)
    weight_decay: float = setting(
        0.0005, "Weight decay, inside the momentum. Sec. 5.", lower=0.0
    )
    plateau_patience: int = setting(
        5,
        "Epochs without a lower validation top-1 error before the learning "
        "rate drops [epochs]. Sec. 5 gives no number.",
        lower=1,
    )
    plateau_factor: float = setting(
        10.0, "The learning rate is divided by this. Sec. 5.", lower=1.0
    )
    plateau_drops: int = setting(
        3,
        "Drops allowed; the plateau after the last one ends the run. Sec. 5.",
        lower=0,
    )
    seed: int = setting(
        1,
        "Seed of the weights, the order and augmentation of the images and "
        "the dropout masks. (TensorFlow's shuffling does not take 0.)",
        lower=1,
        upper=2**31 - 1,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardware:
    """Devices (Sec. 3.2)."""

    gpus: str = setting(
        "auto",
        "auto: all GPUs that TensorFlow sees, the CPU if there is none; all: "
        "all GPUs, at least one; none: the CPU; or GPU numbers such as 0,1.",
    )
    virtual_devices: int = setting(
        0,
        "Divide the CPU into this many devices, to rehearse several GPUs; 0: "
        "do not.",
        lower=0,
        upper=64,
    )
    devices_per_replica: int = setting(
        0,
        "Devices that one network takes: as many as towers (one tower each) "
        "or 1 (all towers on one); 0: as many as towers if there are enough. "
        "Sec. 3.2.",
        lower=0,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """Runs."""

    run_dir: str = setting(
        "", "Directory of the run; train started again on it goes on."
    )
    keep_checkpoints: int = setting(
        2, "Newest checkpoints kept beside the best one.", lower=1
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingleCommands:
    """One command at a time, not kept with a run."""

    split: str = setting(
        "", "evaluate: split to measure; empty: the validation split."
    )
    saved_model: str = setting(
        "", "predict: use this exported SavedModel instead of --run_dir."
    )
    figures_dir: str = setting(
        "",
        "figures: directory to draw into; empty: RUN_DIR/figures of the first "
        "run named.",
    )
    json: str = setting("", "Also write what the command prints to this file.")
    debug: bool = setting(False, "Show the stack trace of a user's error.")


GROUPS = (Data, Network, Training, Hardware, Output, SingleCommands)
