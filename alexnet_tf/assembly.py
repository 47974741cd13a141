"""From a `Config` to the parts it describes; what the workflows share."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import keras

from alexnet_tf import checkpoints, data, sources, towers
from alexnet_tf.config import Config
from alexnet_tf.errors import UserError
from alexnet_tf.inference import make_classifier
from alexnet_tf.metrics import top_k_error
from alexnet_tf.model import alexnet
from alexnet_tf.optimizer import MomentumSGD
from alexnet_tf.preprocessing import Geometry, colour_noise_basis
from alexnet_tf.run_dir import RunDir
from alexnet_tf.sources import Examples
from alexnet_tf.towers import Placement


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
    """What a run knows of its data set; kept in its dataset.json.

    Args:
        class_names: In the order of the labels.
        mean_rgb: Mean colour, three numbers in 0..255.
        covariance_rgb: 3x3, of pixels in 0..255.
        train_examples: Size of the training split.
        validation_examples: Size of the validation split.
    """

    class_names: list[str]
    mean_rgb: list[float]
    covariance_rgb: list[list[float]]
    train_examples: int
    validation_examples: int


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
    return Geometry(config.image_size, config.crop_size)


def make_placement(config: Config) -> Placement:
    """Returns the devices of the run.

    Raises:
        UserError: if devices are missing, or the towers or the batch cannot
            be divided among them.
    """
    placement = towers.place(
        towers.find_devices(
            gpus=config.gpus, virtual_devices=config.virtual_devices
        ),
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


def open_split(config: Config, split: str) -> Examples:
    """Opens a split of the run's data set."""
    return sources.open_split(config.dataset, split, data_dir=config.data_dir)


def make_model(
    config: Config, facts: DatasetFacts, placement: Placement | None = None
) -> keras.Model:
    """Builds the network, with the same initial weights for the same seed."""
    keras.utils.set_random_seed(config.seed)
    return alexnet(
        len(facts.class_names),
        crop_size=config.crop_size,
        mean_rgb=facts.mean_rgb,
        noise_basis=colour_noise_basis(
            facts.covariance_rgb,
            reading=config.colour_noise,
            std=config.colour_noise_std,
        ),
        towers=config.towers,
        width=config.width,
        lrn_size=config.lrn_size,
        lrn_k=config.lrn_k,
        lrn_alpha=config.lrn_alpha,
        lrn_beta=config.lrn_beta,
        dropout_rate=config.dropout_rate,
        initialisation=config.initialisation,
        seed=config.seed,
        placement=placement,
    )


def make_trainer(
    config: Config, facts: DatasetFacts, placement: Placement
) -> keras.Model:
    """Builds and compiles the network under MirroredStrategy."""
    with towers.make_strategy(placement).scope():
        model = make_model(config, facts, placement)
        model.compile(
            optimizer=MomentumSGD(
                config.learning_rate, config.momentum, config.weight_decay
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[top_k_error(1), top_k_error(5)],
            # XLA cannot compile a step that spans several devices.
            jit_compile=False,
        )
        # A checkpoint can only be restored into slots that exist.
        model.optimizer.build(model.trainable_variables)
    return model


def evaluate_centre(
    model: keras.Model, config: Config, examples: Examples
) -> dict[str, float]:
    """Measures the error on the centre patch of each example.

    Returns:
        `loss`, `top1_error` and `top5_error`, and `num_examples`.

    Raises:
        RuntimeError: if not exactly all examples were seen.
    """
    batches = data.evaluation_batches(
        examples,
        batch_size=config.batch_size,
        geometry=make_geometry(config),
    )
    measured = model.evaluate(batches, return_dict=True, verbose=0)
    loss_mean = model.metrics[0]  # It counts what it averages.
    num_examples = int(loss_mean.count.numpy())
    if num_examples != examples.count:
        raise RuntimeError(
            f"evaluated {num_examples} examples of {examples.count}"
        )
    return {**measured, "num_examples": num_examples}


def read_facts(run: RunDir) -> DatasetFacts:
    """Returns what a run knows of its data set.

    Raises:
        UserError: if this is not the directory of a run.
    """
    if not run.dataset.exists():
        raise UserError(
            f"{run.path} is not a run directory: it has no "
            f"{run.dataset.name}. Start a run with train --run_dir={run.path}."
        )
    return DatasetFacts(**json.loads(run.dataset.read_text()))


def restore_best(model: keras.Model, run: RunDir) -> dict:
    """Gives a model the weights of a run's best checkpoint.

    Returns:
        The checkpoint's state.

    Raises:
        UserError: if there is none, or it is of another network.
    """
    checkpoint = checkpoints.best(run.checkpoints)
    if checkpoint is None:
        raise UserError(
            f"{run.path} has no checkpoint yet; the first one is written "
            "after the first epoch."
        )
    checkpoints.restore(checkpoint, model.variables)
    return checkpoints.read_state(checkpoint)


def make_best_classifier(config: Config, run: RunDir) -> Callable:
    """Returns the classifier with a run's best weights, bound to no device.

    Raises:
        UserError: if there is no such run, or it has no checkpoint.
    """
    facts = read_facts(run)
    model = make_model(config, facts)
    restore_best(model, run)
    return make_classifier(model, facts.class_names, make_geometry(config))
