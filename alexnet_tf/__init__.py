"""AlexNet as Krizhevsky, Sutskever and Hinton (2012) describe it."""

__version__ = "0.2.0"
