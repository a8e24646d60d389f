"""Objectives: losses and metrics of each kind of prediction."""
