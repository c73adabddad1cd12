"""Recurrent neural networks at the full speed of a CPU, from NumPy."""

__version__ = "0.1.0"
