"""Settings of the devices and of the run directory."""

import dataclasses

from alexnet_tf.config.field import PATH, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardware:
    """Devices (Sec. 3.2)."""

    gpus: str = setting(
        "auto",
        "auto: all GPUs that TensorFlow sees, the CPU if there is none; all: "
        "all GPUs, at least one; none: the CPU; or GPU numbers such as 0,1.",
    )
    virtual_devices: int = setting(
        0, "Parts of the CPU that emulate GPUs; 0: off.", lower=0, upper=64
    )
    devices_per_replica: int = setting(
        0,
        "Devices of one copy of the network: the number of towers (one each) "
        "or 1 (all on one); 0: one each if there are enough. Sec. 3.2.",
        lower=0,
    )
    precision: str = setting(
        "float32",
        "Arithmetic. bfloat16: mixed, with weights, normalization and loss in "
        "float32, for processors with bfloat16 arithmetic; float16: the same "
        "in half precision with loss scaling, for GPUs without bfloat16.",
        choices=("float32", "bfloat16", "float16"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """Runs."""

    run_dir: str = setting(
        "",
        "Run directory. train continues a run there, with its settings if the "
        "command line has none of data and network; empty: a new one, "
        "runs/NAME-DATE with the name of the flag file or data set. evaluate, "
        "predict, export and figures: empty: the newest in runs/.",
        path=PATH,
    )
    checkpoint_every_steps: int = setting(
        1000, "Steps between checkpoints; 0: only after each epoch.", lower=0
    )
    summary_steps: int = setting(
        100,
        "Steps between TensorBoard's points within an epoch; 0: none.",
        lower=0,
    )
    profile_steps: int = setting(
        0,
        "Steps to profile, from the tenth on, for TensorBoard (pip install "
        "tensorboard-plugin-profile). 0: none.",
        lower=0,
    )
    keep_checkpoints: int = setting(
        2, "Newest checkpoints to keep besides the best one.", lower=1
    )
