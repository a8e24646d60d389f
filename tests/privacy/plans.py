"""Plans of private runs."""

from tff_tx.config import RunConfig
from tff_tx.privacy import build_plan

GAUSSIAN = {"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 1.0, "cohort.sampling": "poisson"}
ADAPTIVE = {**GAUSSIAN, "privacy.mechanism": "adaptive"}
TREE = {**GAUSSIAN, "privacy.mechanism": "tree", "cohort.sampling": "min_separation"}


def plan(values, clients=100, dimension=1000, server_rates=None):
    """The plan for a number of clients and a model of so many weights."""
    return build_plan(RunConfig.of(values), clients, dimension, server_rates)
