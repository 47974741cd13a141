"""How a setting is declared: a dataclass field that becomes a flag."""

import dataclasses
import re
from collections.abc import Callable

# Values of settings that are paths, and those that contain one.
PATH = ".+"
FOLDER_PATH = "(?<=^folder:).+"
MEAN_PATH = r".+\.binaryproto$"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a flag needs besides its name, type and default."""

    help: str
    lower: float | None = None
    upper: float | None = None
    choices: tuple[str, ...] = ()
    path: str = ""  # Regular expression of the path in a value.


def setting(default, help, **options):
    """Declares a field; `options` are those of `Setting`."""
    declared = Setting(help, **options)
    return dataclasses.field(default=default, metadata={"setting": declared})


def change_path(value, pattern: str, change: Callable[[str], str]):
    """Returns a value with the path in it changed; `pattern` may be empty."""
    if not pattern:
        return value
    return re.sub(pattern, lambda match: change(match[0]), value)
