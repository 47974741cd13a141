"""Settings of the training recipe."""

import dataclasses

from alexnet_tf.config.field import PATH, setting
from alexnet_tf.config.schedule import Schedule, read_number, read_pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Training (Sec. 5)."""

    batch_size: int = setting(
        128, "Global batch size [images]. Sec. 5.", lower=1, upper=2**17
    )
    epochs: int = setting(
        90, "Passes over the training set, at most [epochs]. Sec. 5.", lower=1
    )
    optimizer: str = setting(
        "momentum",
        "momentum: the paper's gradient descent, Sec. 5. lars: the same with a "
        "rate per kernel, for batches of thousands (You, Gitman and Ginsburg, "
        "2017, arXiv:1708.03888).",
        choices=("momentum", "lars"),
    )
    lars_trust: float = setting(
        0.001,
        "With --optimizer=lars: a step's size relative to the kernel, at a "
        "learning rate of 1.",
        lower=1e-9,
    )
    learning_rate: float = setting(
        0.01, "Learning rate at the start. Sec. 5.", lower=0.0
    )
    base_batch_size: int = setting(
        0,
        "Batch size that --learning_rate is meant for; for another it is "
        "multiplied by batch_size / base_batch_size (Goyal et al., 2017, "
        "arXiv:1706.02677). 0: no scaling [images].",
        lower=0,
    )
    warmup_epochs: float = setting(
        0.0,
        "Linear warm-up of the learning rate, for large batches [epochs].",
        lower=0.0,
        upper=10_000.0,
    )
    momentum: float = setting(
        0.9, "Momentum, below 1. Sec. 5.", lower=0.0, upper=0.9999
    )
    weight_decay: float = setting(
        0.0005, "Weight decay, inside the momentum. Sec. 5.", lower=0.0
    )
    layer_weight_decay: str = setting(
        "",
        "Weight decay of single layers in place of --weight_decay, as "
        "fc6=0.001,fc7=0.001.",
    )
    decay_biases: bool = setting(
        True,
        "Decay biases too, as the paper's text implies; the 2012 source and "
        "Caffe do not. Sec. 5.",
    )
    bias_learning_rate: float = setting(
        1.0,
        "Factor on the learning rate of biases; 2 in Caffe and, at the start, "
        "in the 2012 source. Sec. 5.",
        lower=0.0,
    )
    schedule: str = setting(
        "",
        "Learning rates by date, in place of the plateau rule and of all "
        "settings of rates: dates in epochs done, as 0: weights=1e-2, "
        "biases=2e-2; 25: weights=1e-3; 67: conv1.weights=0, color_noise=off. "
        "Rate 0 freezes; a layer's own rate overrides the general one.",
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
        3, "Drops, before the plateau that ends the run. Sec. 5.", lower=0
    )
    on_nonfinite: str = setting(
        "stop",
        "After a nonfinite loss or gradient, stop: end the run; rollback: "
        "return to the last checkpoint and skip that batch.",
        choices=("stop", "rollback"),
    )
    max_rollbacks: int = setting(
        3, "Rollbacks allowed; with --on_nonfinite=rollback.", lower=1
    )
    init_from: str = setting(
        "",
        "Run directory whose best weights a new run starts from, in layers of "
        "the same name and shape. Sec. 6.",
        path=PATH,
    )
    freeze: str = setting(
        "", "Layers to freeze in all towers, as conv1,conv2; with --init_from."
    )
    seed: int = setting(
        1,
        "Seed of weights, image order, augmentation and dropout masks. "
        "(TensorFlow's shuffle rejects 0 and takes 2147483647 for it.)",
        lower=1,
        upper=2**31 - 2,
    )

    @property
    def rollbacks(self) -> int:
        """Rollbacks allowed."""
        return self.max_rollbacks if self.on_nonfinite == "rollback" else 0

    @property
    def rate_schedule(self) -> Schedule | None:
        """The dates of --schedule; None for the plateau rule."""
        return Schedule.parse(self.schedule) if self.schedule else None

    def layer_decays(self) -> dict[str, float]:
        """Returns the weight decay of layers that have their own."""
        name = "layer_weight_decay"
        pairs = read_pairs(name, self.layer_weight_decay)
        return {layer: read_number(name, pairs[layer]) for layer in pairs}

    @property
    def full_learning_rate(self) -> float:
        """The learning rate at the start, scaled to the batch size."""
        if not self.base_batch_size:
            return self.learning_rate
        return self.learning_rate * self.batch_size / self.base_batch_size
