"""AlexNet as Krizhevsky, Sutskever and Hinton (2012) describe it."""
