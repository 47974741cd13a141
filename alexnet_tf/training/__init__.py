"""The optimizer, the training loop and its callbacks, and resuming."""
