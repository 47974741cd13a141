"""The table of settings: type, default, help, unit, bounds, paper section.

Each setting stands once, here, in `data_settings.py`, `network.py` or
`command_settings.py`; `config.py` makes flags of them. Section numbers are
those of Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep
Convolutional Neural Networks", 2012.
"""

import dataclasses

from alexnet_tf.config.commands import SingleCommands
from alexnet_tf.config.data import Data
from alexnet_tf.config.field import setting
from alexnet_tf.config.network import Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Training (Sec. 5)."""

    batch_size: int = setting(
        128,
        "Images a step, over all replicas [images]. Sec. 5.",
        lower=1,
        upper=2**17,
    )
    epochs: int = setting(
        90, "Passes over the training set, at most [epochs]. Sec. 5.", lower=1
    )
    optimizer: str = setting(
        "momentum",
        "momentum: the paper's gradient descent, Sec. 5. lars: the same with a "
        "rate for each kernel, for batches of thousands (You, Gitman and "
        "Ginsburg, 2017, arXiv:1708.03888).",
        choices=("momentum", "lars"),
    )
    lars_trust: float = setting(
        0.001,
        "With --optimizer=lars: what a step changes of a kernel, as a share of "
        "it, at a learning rate of 1.",
        lower=1e-9,
    )
    learning_rate: float = setting(
        0.01, "Learning rate at the start. Sec. 5.", lower=0.0
    )
    base_batch_size: int = setting(
        0,
        "The batch that --learning_rate is meant for: with another it is "
        "multiplied by batch_size / base_batch_size (Goyal et al., 2017, "
        "arXiv:1706.02677). 0: it is meant for every batch [images].",
        lower=0,
    )
    warmup_epochs: float = setting(
        0.0,
        "The learning rate grows step by step for so long at the start "
        "[epochs]; for large batches.",
        lower=0.0,
        upper=10_000.0,
    )
    momentum: float = setting(
        0.9, "Momentum, below 1. Sec. 5.", lower=0.0, upper=0.9999
    )
    weight_decay: float = setting(
        0.0005, "Weight decay, inside the momentum. Sec. 5.", lower=0.0
    )
    decay_biases: bool = setting(
        True,
        "Decay biases too; the paper makes no difference, the 2012 source and "
        "Caffe do not decay them. Sec. 5.",
    )
    bias_learning_rate: float = setting(
        1.0,
        "Factor on the learning rate of biases; 2 in Caffe and, at the start, "
        "in the 2012 source. Sec. 5.",
        lower=0.0,
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
    on_nonfinite: str = setting(
        "stop",
        "When the loss or the gradient of a step is not finite. stop: end the "
        "run; rollback: go back to the last checkpoint and leave that batch "
        "out.",
        choices=("stop", "rollback"),
    )
    max_rollbacks: int = setting(
        3,
        "How often a run may roll back before it ends; with "
        "--on_nonfinite=rollback.",
        lower=1,
    )
    init_from: str = setting(
        "",
        "Run directory whose best weights a new run starts from, layer by "
        "layer where the shapes are the same. Sec. 6.",
    )
    freeze: str = setting(
        "",
        "Layers whose weights stay as they start, in both towers, as "
        "conv1,conv2; with --init_from.",
    )
    seed: int = setting(
        1,
        "Seed of the weights, the order and augmentation of the images and "
        "the dropout masks. (TensorFlow's shuffling does not take 0, nor "
        "2147483647, which it takes for 0.)",
        lower=1,
        upper=2**31 - 2,
    )

    @property
    def full_learning_rate(self) -> float:
        """The learning rate at the start, made to fit the batch size."""
        if not self.base_batch_size:
            return self.learning_rate
        return self.learning_rate * self.batch_size / self.base_batch_size


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
    precision: str = setting(
        "float32",
        "Arithmetic. bfloat16: mixed, with weights, normalisation and loss in "
        "float32; for processors that have bfloat16 arithmetic. float16: the "
        "same in half precision, with the loss scaled; for GPUs that have no "
        "bfloat16.",
        choices=("float32", "bfloat16", "float16"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """Runs."""

    run_dir: str = setting(
        "",
        "Directory of the run; the same command started again goes on with it.",
    )
    checkpoint_every_steps: int = setting(
        1000,
        "Steps between checkpoints within an epoch; there is one after each "
        "epoch anyway. 0: none.",
        lower=0,
    )
    profile_steps: int = setting(
        0,
        "Steps to trace, from the tenth on, for TensorBoard's profiler (pip "
        "install tensorboard-plugin-profile). 0: none.",
        lower=0,
    )
    keep_checkpoints: int = setting(
        2, "Newest checkpoints kept beside the best one.", lower=1
    )


GROUPS = (Data, Network, Training, Hardware, Output, SingleCommands)
