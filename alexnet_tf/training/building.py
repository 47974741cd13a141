"""From a `Config` to its networks: to train, or with a run's best weights."""

import keras

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.distribution import placement as towers
from alexnet_tf.distribution.placement import Placement
from alexnet_tf.evaluation.inference import Endpoints, make_endpoints
from alexnet_tf.evaluation.metrics import top_k_error
from alexnet_tf.models.alexnet import alexnet
from alexnet_tf.models.layers import colour_noise_basis
from alexnet_tf.storage.dataset_info import DatasetFacts, read_facts
from alexnet_tf.storage.run_dir import RunDir
from alexnet_tf.training import weights
from alexnet_tf.training.optimizer import MomentumSGD

# Keras's name of each --precision.
_DTYPES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}
# Gradients of the outputs are up to 1 / batch size; float16 ends at 65504.
_FLOAT16_SCALE = 1024.0


def make_model(
    config: Config,
    facts: DatasetFacts,
    placement: Placement | None = None,
    *,
    dtype: str = "float32",
) -> keras.Model:
    """Builds the network, with the same initial weights for the same seed.

    Raises:
        UserError: if the mean image has another size than the crops, or as
            for `model.alexnet`.
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
        config.geometry,
    )
