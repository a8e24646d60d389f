"""Federated learning for Hugging Face Transformers on TensorFlow Federated."""

__version__ = "0.1.0"
