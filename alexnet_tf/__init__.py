"""AlexNet as Krizhevsky, Sutskever and Hinton (2012) describe it."""

import time

# Before TensorFlow is imported, which takes seconds.
STARTED = time.perf_counter()
