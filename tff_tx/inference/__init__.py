"""Inference with trained models: predictors, generators, and the scoring of texts and records."""
