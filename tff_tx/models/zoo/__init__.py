"""Transformers of this package, beside those of Hugging Face."""
