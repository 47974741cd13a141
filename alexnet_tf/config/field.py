"""How a setting is declared: a dataclass field that becomes a flag."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a flag needs besides its name, type and default."""

    help: str
    lower: float | None = None
    upper: float | None = None
    choices: tuple[str, ...] = ()


def setting(default, help, **options):
    """Declares a field; `options` are those of `Setting`."""
    declared = Setting(help, **options)
    return dataclasses.field(default=default, metadata={"setting": declared})
