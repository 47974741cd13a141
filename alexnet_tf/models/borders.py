"""Kernel maps of the towers beside, for windows that reach over the border."""

from collections.abc import Callable, Sequence

import keras

from alexnet_tf.config.errors import UserError
from alexnet_tf.models.tower_layers import Channels, Concatenate, Replicate


def add(
    each: Callable, x: Sequence[keras.KerasTensor], reach: int, name: str
) -> list[keras.KerasTensor]:
    """Gives each tower the nearest maps of the towers beside it.

    Only these cross between devices.

    Args:
        each: `TowerBuilder.each`.
        x: The towers' maps, (batch, height, width, count).
        reach: Maps to take of either neighbor; the first and the last tower
            have one neighbor only.
        name: Of the layer that wants them.

    Raises:
        UserError: if a neighbor has fewer.
    """
    count = x[0].shape[-1]
    if reach > count:
        raise UserError(
            f"--lrn_across_towers: a window reaches {reach} kernel maps far, "
            f"but the tower beside has {count}; use an --lrn_size of at most "
            f"{2 * count + 1}."
        )

    def fork(tower, **arguments):
        # Not one copy more: its gradient would be zeros, made on the lead.
        neighbors = (tower > 0) + (tower + 1 < len(x))
        return Replicate(1 + neighbors, tower=tower, **arguments)

    copies = each(fork, x, f"fork_{name}")
    first, last = (
        each(Channels, some, f"{end}_{name}", start=start, stop=start + reach)
        for end, some, start in (
            ("first", [c[1] for c in copies], 0),
            ("last", [c[-1] for c in copies], count - reach),
        )
    )
    wide = [
        [*last[:tower][-1:], own, *first[tower + 1 :][:1]]
        for tower, (own, *_) in enumerate(copies)
    ]
    return each(Concatenate, wide, f"shared_{name}")


def remove(
    each: Callable,
    x: Sequence[keras.KerasTensor],
    reach: int,
    count: int,
    name: str,
) -> list[keras.KerasTensor]:
    """Leaves each tower its own `count` maps of what `add` made."""

    def own_maps(tower, **arguments):
        start = reach if tower else 0  # There is none before the first.
        return Channels(start, start + count, tower=tower, **arguments)

    return each(own_maps, x, f"own_{name}")
