"""Weights in the safetensors format, which holds arrays and no code."""

from pathlib import Path

import numpy as np

from alexnet_tf.config.errors import UserError

_CONVERT = (
    'python -c "import torch, safetensors.torch as s; s.save_file(torch.load('
    "'{pth}', weights_only=True), '{new}')\""
)


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a file by name, in float32."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise UserError(
            "--safetensors needs the package safetensors: pip install "
            "'alexnet_tf[export]', or -r requirements-export.txt"
        ) from error
    try:
        with safe_open(file, "numpy") as opened:
            return {
                name: _read_array(opened, name, file) for name in opened.keys()
            }
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error}.") from error
    except SafetensorError as error:
        pth, new = file.with_suffix(".pth"), file.with_suffix(".safetensors")
        raise UserError(
            f"{file} is not a safetensors file: {error}.\n"
            "Of a .pth file, make one where torch is installed:\n"
            f"{_CONVERT.format(pth=pth, new=new)}"
        ) from error


def _read_array(opened, name, file):
    dtype = opened.get_slice(name).get_dtype()
    if dtype not in ("F16", "F32", "F64"):
        raise UserError(
            f"{file}: {name} has numbers of type {dtype}; give a file with "
            "F16, F32 or F64."
        )
    with np.errstate(over="ignore"):  # Too large ones are reported below.
        array = opened.get_tensor(name).astype(np.float32)
    if not np.isfinite(array).all():
        raise UserError(
            f"{file}: {name} has numbers that are not finite; get the file "
            "again."
        )
    return array
