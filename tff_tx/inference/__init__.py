"""Inference with trained models: predictors of all tasks, and the scoring of what they write."""

from tff_tx.inference.exporting import EXPORTS, export
from tff_tx.inference.predictor import Options, Predictor, as_text, build_predictor
