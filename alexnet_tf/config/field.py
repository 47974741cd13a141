"""How a setting is declared: a dataclass field that becomes a flag."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a flag needs besides its name, type and default.

    Args:
        help: Help text.
        lower: Least value allowed.
        upper: Greatest value allowed.
        choices: All values allowed.
        alias: Former name, still accepted.
    """

    help: str
    lower: float | None = None
    upper: float | None = None
    choices: tuple[str, ...] = ()
    alias: str = ""


def setting(default, help, **options):
    """Declares a field; `options` are those of `Setting`."""
    return dataclasses.field(
        default=default, metadata={"setting": Setting(help, **options)}
    )
