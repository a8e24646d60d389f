"""Experiment trackers as callbacks: they get a run's settings and the figures of `metrics.csv`, nothing else."""
