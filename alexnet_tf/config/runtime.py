"""Settings of the devices and of the run directory."""

import dataclasses

from alexnet_tf.config.field import setting


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
        "Arithmetic. bfloat16: mixed, with weights, normalization and loss in "
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
