"""AlexNet as Krizhevsky, Sutskever and Hinton (2012) describe it.

`import alexnet_tf` takes no time: each name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alexnet_tf.config.network import Network
    from alexnet_tf.evaluation.inference import load_run
    from alexnet_tf.evaluation.predictor import top_k_error
    from alexnet_tf.models.alexnet import alexnet
    from alexnet_tf.models.layers import Dropout, InputNormalization
    from alexnet_tf.models.normalization import LocalResponseNormalization
    from alexnet_tf.training.optimizer import MomentumSGD
    from alexnet_tf.training.plateau import PlateauSchedule

__version__ = "0.2.0"
__all__ = [
    "Dropout",
    "InputNormalization",
    "LocalResponseNormalization",
    "MomentumSGD",
    "Network",
    "PlateauSchedule",
    "__version__",
    "alexnet",
    "load_run",
    "top_k_error",
]
_HOMES = {
    "Dropout": "models.layers",
    "InputNormalization": "models.layers",
    "LocalResponseNormalization": "models.normalization",
    "MomentumSGD": "training.optimizer",
    "Network": "config.network",
    "PlateauSchedule": "training.plateau",
    "alexnet": "models.alexnet",
    "load_run": "evaluation.inference",
    "top_k_error": "evaluation.predictor",
}

if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r}"
            )
        module = importlib.import_module(f"alexnet_tf.{_HOMES[name]}")
        return getattr(module, name)

    def __dir__():
        return [*globals(), *_HOMES]
