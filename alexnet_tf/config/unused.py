"""Flags of a command line that have no effect beside the others."""

import dataclasses
from collections.abc import Callable, Sequence

from alexnet_tf.config.flags import Config, given_flags
from alexnet_tf.config.network import Network
from alexnet_tf.config.runtime import Hardware
from alexnet_tf.config.training import Training

# Names of flags, the setting beside which they have no effect, and whether a
# Config has it.
_CONDITIONS: tuple[tuple[str, str, Callable[[Config], bool]], ...] = (
    (
        "lrn_layers lrn_size lrn_k lrn_alpha lrn_beta lrn_divide_alpha "
        "lrn_across_towers",
        "with --lrn=off",
        lambda config: config.lrn == "off",
    ),
    (
        "tower_communication link_precision lrn_across_towers",
        "with --towers=1",
        lambda config: config.towers == 1,
    ),
    (
        "factorized_conv2 conv2_activation",
        "without kernels of conv2 in --kernels",
        lambda config: not config.kernel_counts().get("conv2"),
    ),
    (
        "dropout_rate dropout_form",
        "with --dropout_layers= (none)",
        lambda config: not config.dropout_layers,
    ),
    (
        "color_noise_std color_noise_shrink",
        "with --color_noise=off",
        lambda config: config.color_noise == "off",
    ),
    (
        "augment_chunk",
        "with --norandom_crop and --nohorizontal_flip",
        lambda config: not (config.random_crop or config.horizontal_flip),
    ),
    (
        "plateau_patience plateau_factor plateau_drops",
        "with --schedule",
        lambda config: bool(config.schedule),
    ),
    (
        "plateau_factor",
        "with --plateau_drops=0",
        lambda config: config.plateau_drops == 0,
    ),
    (
        "lars_trust",
        "without --optimizer=lars",
        lambda config: config.optimizer != "lars",
    ),
    (
        "max_rollbacks",
        "without --on_nonfinite=rollback",
        lambda config: config.on_nonfinite != "rollback",
    ),
    (
        "devices_per_machine network_gbps device_gbps",
        "without --scale",
        lambda config: not config.scale,
    ),
)
# Groups of settings that a command does not use, except for those in `_USED`.
_GROUPS: dict[str, tuple[type, ...]] = {
    "evaluate": (Training,),
    "predict": (Training, Hardware),
    "export": (Training, Hardware),
    "figures": (Training, Hardware),
    "compare": (Network, Training, Hardware),
    "prepare": (Network, Training, Hardware),
}
_USED = {
    "evaluate": {"batch_size"},
    "export": {"seed"},
    "figures": {"seed"},
}


def unused_flags(
    arguments: Sequence[str], config: Config, command: str
) -> list[str]:
    """Returns a sentence for each reason why given flags have no effect.

    Flags in flag files are left alone: a file is a whole recipe, of which
    other flags may turn parts off.
    """
    given = given_flags(arguments, in_files=False)
    groups = _GROUPS.get(command, ())
    names = {field.name for g in groups for field in dataclasses.fields(g)}
    names -= _USED.get(command, set())
    reasons = {f"on {command}": names & given} | {
        reason: given & set(flags.split()) - names
        for flags, reason, applies in _CONDITIONS
        if applies(config)
    }
    return [
        f"{', '.join(f'--{flag}' for flag in sorted(flags))} "
        f"{'has' if len(flags) == 1 else 'have'} no effect {reason}."
        for reason, flags in reasons.items()
        if flags
    ]
