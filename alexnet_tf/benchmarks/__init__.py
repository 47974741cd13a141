"""Speed and traffic of training, measured and predicted."""
