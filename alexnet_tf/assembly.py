"""From a `Config` to the parts it describes; what the workflows share."""

from pathlib import Path

import keras
import tensorflow as tf

from alexnet_tf import data, multi_worker, towers, weights
from alexnet_tf.bad_examples import BadExamples
from alexnet_tf.config import Config, to_arguments
from alexnet_tf.dataset_facts import DatasetFacts, read_facts
from alexnet_tf.errors import UserError
from alexnet_tf.evaluation import SplitPredictor
from alexnet_tf.examples import Examples
from alexnet_tf.geometry import Geometry
from alexnet_tf.inference import Endpoints, make_endpoints
from alexnet_tf.input_clock import InputClock
from alexnet_tf.layers import colour_noise_basis
from alexnet_tf.metrics import top_k_error
from alexnet_tf.model import alexnet
from alexnet_tf.optimizer import MomentumSGD
from alexnet_tf.run_dir import RunDir
from alexnet_tf.towers import Placement

# Keras's name of each --precision.
_DTYPES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}
# Gradients of the outputs are up to 1 / batch size; float16 ends at 65504.
_FLOAT16_SCALE = 1024.0


def open_run(config: Config) -> RunDir:
    """Returns the directory that --run_dir names.

    Raises:
        UserError: if it names none, or something else.
    """
    if not config.run_dir:
        raise UserError("give --run_dir=DIR, the directory of the run.")
    path = Path(config.run_dir)
    if path.exists() and not path.is_dir():
        raise UserError(f"--run_dir={path} is a file; give a directory.")
    return RunDir(path)


def make_geometry(config: Config) -> Geometry:
    """Returns the sizes of the patches."""
    return Geometry(
        config.image_size, config.crop_size, config.resize == "squash"
    )


def make_placement(config: Config, run: RunDir | None = None) -> Placement:
    """Returns the devices of the run.

    Args:
        config: The settings.
        run: The run, if several workers may deal with it together.

    Raises:
        UserError: if devices are missing, the towers or the batch cannot be
            divided among them, or the other workers cannot be joined.
    """
    if run and config.distribution == "multi_worker":
        placement = multi_worker.join(
            run.path,
            settings="\n".join(to_arguments(config, "train")),
            timeout=config.startup_timeout,
            gpus=config.gpus,
            virtual_devices=config.virtual_devices,
            num_towers=config.towers,
            devices_per_replica=config.devices_per_replica,
        )
        replicas = placement.strategy.num_replicas_in_sync
    else:
        devices = towers.find_devices(
            gpus=config.gpus, virtual_devices=config.virtual_devices
        )
        placement = towers.place(
            devices,
            towers=config.towers,
            devices_per_replica=config.devices_per_replica,
        )
        replicas = len(placement.devices)
    if config.batch_size % replicas:
        raise UserError(
            f"--batch_size={config.batch_size} cannot be divided among "
            f"{replicas} replicas; use a multiple of {replicas}."
        )
    return placement


def make_model(
    config: Config,
    facts: DatasetFacts,
    placement: Placement | None = None,
    *,
    dtype: str = "float32",
) -> keras.Model:
    """Builds the network, with the same initial weights for the same seed.

    Raises:
        UserError: if the mean image has another size than the crops, or see
            `model.alexnet`.
    """
    side = config.crop_size
    if facts.mean_image is not None and len(facts.mean_image) != side:
        raise UserError(
            f"--crop_size={side}, but the run's mean image has a side of "
            f"{len(facts.mean_image)}; use --crop_size="
            f"{len(facts.mean_image)}."
        )
    keras.utils.set_random_seed(config.seed)
    noise_basis = colour_noise_basis(
        facts.covariance_rgb,
        reading=config.colour_noise,
        std=config.colour_noise_std,
    )
    shrink = config.colour_noise_shrink and noise_basis
    return alexnet(
        len(facts.class_names),
        config,
        crop_size=config.crop_size,
        mean=facts.mean_rgb if facts.mean_image is None else facts.mean_image,
        noise_basis=noise_basis,
        noise_shrink=1 + config.colour_noise_std if shrink else 1.0,
        seed=config.seed,
        placement=placement,
        dtype=dtype,
    )


def dtype_of(config: Config) -> str:
    """Returns Keras's dtype policy for --precision."""
    return _DTYPES[config.precision]


def make_trainer(
    config: Config, facts: DatasetFacts, placement: Placement
) -> keras.Model:
    """Builds and compiles the network for the devices of a run.

    Raises:
        UserError: as for `make_model`, or if --freeze names no layer or leaves
            nothing to train.
    """
    with towers.make_strategy(placement).scope():
        model = make_model(config, facts, placement, dtype=dtype_of(config))
        weights.freeze(model, config.freeze)
        model.compile(
            optimizer=_make_optimizer(config, facts),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[top_k_error(1), top_k_error(5)],
            # XLA cannot compile a step that spans several devices.
            jit_compile=False,
            auto_scale_loss=False,  # `MomentumSGD` does.
        )
        # A checkpoint can only be restored into slots that exist.
        model.optimizer.build(model.trainable_variables)
    return model


def _make_optimizer(config, facts):
    is_half = config.precision == "float16"
    steps_per_epoch = facts.train_examples // config.batch_size
    return MomentumSGD(
        config.full_learning_rate,
        config.momentum,
        config.weight_decay,
        decay_biases=config.decay_biases,
        bias_learning_rate=config.bias_learning_rate,
        loss_scale=_FLOAT16_SCALE if is_half else 1.0,
        trust=config.lars_trust if config.optimizer == "lars" else 0.0,
        warmup_steps=round(config.warmup_epochs * steps_per_epoch),
    )


def training_batches(
    config: Config,
    examples: Examples,
    steps: range,
    bad: BadExamples | None = None,
    clock: InputClock | None = None,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Returns the batches of some steps, see `data.training_batches`.

    Bad examples are left out without a word if nothing shall note them.
    """
    return data.training_batches(
        examples,
        batch_size=config.batch_size,
        steps=steps,
        geometry=make_geometry(config),
        crop=config.random_crop,
        flip=config.horizontal_flip,
        shuffle_buffer=config.shuffle_buffer,
        seed=config.seed,
        bad=bad or BadExamples(),
        clock=clock,
        share=share,
    )


def names_of_step(config: Config, examples: Examples, step: int) -> list[str]:
    """Returns the names of the training examples of a step."""
    return data.names_of_step(
        examples,
        batch_size=config.batch_size,
        step=step,
        shuffle_buffer=config.shuffle_buffer,
        seed=config.seed,
    )


def make_predictor(
    model: keras.Model,
    config: Config,
    examples: Examples,
    bad: BadExamples,
    *,
    ten_crops: bool = False,
) -> SplitPredictor:
    """Returns what predicts each example of a split."""
    return SplitPredictor(
        model,
        examples,
        batch_size=config.batch_size,
        geometry=make_geometry(config),
        bad=bad,
        ten_crops=ten_crops,
    )


def make_best_network(config: Config, run: RunDir) -> keras.Model:
    """Returns the network with a run's best weights, in float32.

    It is bound to no device.

    Raises:
        UserError: if there is no such run, or it has no checkpoint.
    """
    model = make_model(config, read_facts(run))
    weights.restore_best(model, run)
    return model


def make_best_endpoints(config: Config, run: RunDir) -> Endpoints:
    """Returns what a run's best network can be asked, see `inference`.

    Raises:
        UserError: if there is no such run, or it has no checkpoint.
    """
    return make_endpoints(
        make_best_network(config, run),
        read_facts(run).class_names,
        make_geometry(config),
    )
