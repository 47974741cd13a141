"""Shapes: a small synthetic data set that stands in for photographs."""
