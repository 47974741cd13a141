"""The model card: what was trained on what, and how well it does."""

import dataclasses
from collections.abc import Sequence

from alexnet_tf.config.data import Data
from alexnet_tf.config.flags import Config
from alexnet_tf.config.network import Network
from alexnet_tf.config.training import Training
from alexnet_tf.storage.dataset_info import read_dataset_info
from alexnet_tf.storage.run_dir import RunDir

_CARD = """\
# {title}, {classes:,} classes of {dataset}

Classifies color images; generated from the run directory {run_dir}.

- **Input.** RGB patches of {crop_size}x{crop_size} pixels, uint8; the network
  subtracts the mean itself. Whole images first become squares of {image_size}
  pixels (`--resize={resize}`), of which the center patch is taken.
- **Output.** Probabilities of the classes listed below, in this order.
- **Data.** {data}
- **Errors.** {errors}
- **Intended use.** Experiments with AlexNet, and images like those of the
  training set.
- **Limits.** Every image receives one of these classes, whatever it shows, and
  probabilities are not calibrated. Errors on other images are unknown and
  probably higher. Biases of the training images were not examined.
- **Versions.** {versions}
- **License.** To be added by whoever publishes the model; the license of the
  training images may restrict its use.

## Recipe

{recipe}

## Classes

{names}
"""
_TITLES = {
    "alexnet": "AlexNet",
    "conv_local": "AlexNet's authors' network for CIFAR-10 (conv_local)",
    "conv_small": "AlexNet's authors' network for CIFAR-10 (conv_small)",
}


def make_card(config: Config, run_dir: RunDir, names: Sequence[str]) -> str:
    """Returns the model card of a run, in Markdown; names are its labels."""
    info = read_dataset_info(run_dir)
    result = run_dir.read_result()
    environment = run_dir.read_environment()
    settings = [
        f"--{field.name}={getattr(config, field.name)}"
        for group in (Data, Network, Training)
        for field in dataclasses.fields(group)
        if getattr(config, field.name) != field.default
        and not field.name.endswith("_dir")
    ]
    recipe = "The paper's, except for these settings:\n\n    "
    if not settings:
        recipe = "The paper's."
    return _CARD.format(
        **dataclasses.asdict(config) | {"run_dir": run_dir.path.name},
        title=_TITLES[config.architecture],
        classes=len(names),
        data=_describe_data(info, result),
        errors=_describe_errors(result),
        versions=", ".join(
            f"{name} {environment[name]}"
            for name in ("python", "tensorflow", "keras", "numpy", "git_commit")
            if environment.get(name)
        )
        or "Not recorded.",
        recipe=recipe + "\n    ".join(settings),
        names="\n".join(f"{i}. {name}" for i, name in enumerate(names)),
    )


def _describe_data(info, result):
    if "imported_from" in result:
        return f"Unknown; the weights come from {result['imported_from']}."
    return (
        f"{info.train_examples:,} training and {info.validation_examples:,} "
        "validation images."
    )


def _describe_errors(result):
    if "top1_error" not in result:
        return "Not measured."
    return (
        f"Top-1 {result['top1_error']:.2%}, top-5 {result['top5_error']:.2%} "
        f"on {result['num_examples']:,} validation images, center patch, after "
        f"epoch {result['best_epoch']} of {result['epochs']}. The same "
        "images chose the epoch, so errors on held-out images are higher."
    )
