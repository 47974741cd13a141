"""AlexNet as Krizhevsky, Sutskever and Hinton (2012) describe it."""

import time

__version__ = "0.2.0"
# Before TensorFlow is imported, which takes seconds.
STARTED = time.perf_counter()
