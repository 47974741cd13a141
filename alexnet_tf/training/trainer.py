"""The compiled network: loss, optimizer, metrics, and where it starts from."""

from pathlib import Path

import keras

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.distribution.devices import Devices
from alexnet_tf.evaluation.predictor import top_k_error
from alexnet_tf.models.build import POLICIES, best_checkpoint, build_network
from alexnet_tf.models.tower_layers import learned_layers
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.dataset_info import DatasetInfo
from alexnet_tf.storage.run_dir import RunDir
from alexnet_tf.training.optimizer import MomentumSGD

# Gradients of the outputs are up to 1 / batch size; float16 ends at 65504.
_FLOAT16_SCALE = 1024.0


def build_trainer(
    config: Config, info: DatasetInfo, devices: Devices, *, steps_per_epoch=1
) -> keras.Model:
    """Builds and compiles the network for the devices of a run.

    `steps_per_epoch` is for --warmup_epochs and --schedule.
    """
    with devices.strategy.scope():
        model = build_network(
            config, info, devices.layout, dtype=POLICIES[config.precision]
        )
        check_layers(model, config)
        freeze(model, config.freeze)
        model.compile(
            optimizer=_make_optimizer(config, steps_per_epoch),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[top_k_error(1), top_k_error(5)],
            # XLA cannot compile a step that spans several devices.
            jit_compile=False,
            auto_scale_loss=False,  # `MomentumSGD` does.
        )
        # A checkpoint can only be restored into slots that exist.
        model.optimizer.build(model.trainable_variables)
    return model


def _make_optimizer(config, steps_per_epoch):
    is_half = "float16" in (config.precision, config.link_precision)
    is_lars = config.optimizer == "lars"
    return MomentumSGD(
        config.full_learning_rate,
        config.momentum,
        config.weight_decay,
        decay_biases=config.decay_biases,
        bias_learning_rate=config.bias_learning_rate,
        loss_scale=_FLOAT16_SCALE if is_half else 1.0,
        trust_coefficient=config.lars_trust if is_lars else 0.0,
        warmup_steps=round(config.warmup_epochs * steps_per_epoch),
        schedule=config.schedule,
        steps_per_epoch=steps_per_epoch,
        layer_decay=config.layer_decays(),
    )


def check_layers(model: keras.Model, config: Config) -> None:
    """Checks that the network has the layers that settings name."""
    schedule = config.rate_schedule
    named = {
        "freeze": filter(None, config.freeze.split(",")),
        "schedule": schedule.layers if schedule else (),
        "layer_weight_decay": config.layer_decays(),
    }
    layers = learned_layers(model)
    for flag, names in named.items():
        for name in names:
            if name not in layers:
                raise UserError(
                    f"--{flag}={getattr(config, flag)}: there is no layer "
                    f"{name!r} with weights; this network has "
                    f"{', '.join(layers)}."
                )


def freeze(model: keras.Model, names: str) -> None:
    """Excludes layers, named without the tower, from training."""
    layers = learned_layers(model)
    for name in filter(None, names.split(",")):
        for layer in layers[name]:
            layer.trainable = False
    if not model.trainable_variables:
        raise UserError(
            f"--freeze={names} leaves nothing to train; leave "
            f"{[*layers][-1]} out."
        )


def find_initial_weights(
    config: Config, run_dir: RunDir, previous: Config | None
) -> Path | None:
    """Returns the checkpoint of another run that a new run starts from."""
    if not previous and config.freeze and not config.init_from:
        raise UserError(
            f"--freeze={config.freeze} without --init_from would keep random "
            "weights; give --init_from=RUN_DIR, or leave it out."
        )
    # A resumed run has weights.
    if not config.init_from or checkpoints.newest(run_dir.checkpoints):
        return None
    return best_checkpoint(RunDir(Path(config.init_from)))


def initialize_from(checkpoint: Path, model: keras.Model) -> None:
    """Copies another run's weights to the layers they fit."""
    taken, left = checkpoints.restore_fitting(checkpoint, model)
    if not taken:
        raise UserError(
            f"--init_from: no layer of {checkpoint} fits this network; its "
            "names and shapes come from --width, --towers, --kernels and "
            "--crop_size."
        )
    print(f"Weights from {checkpoint}: {', '.join(taken)}")
    print(f"New random weights: {', '.join(left) or 'none'}")
