"""Exposure of canaries (Carlini et al. 2019, "The secret sharer", https://arxiv.org/abs/1802.08232).

A canary is a random text in the training data. Exposure is the number of bits that the model reveals of it: by how much
it ranks above texts drawn in the same way that were not trained on. TensorFlow Privacy's `secret_sharer` is not in its
wheel (0.9.0 leaves out the package `privacy_tests`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def exposure_by_rank(losses: Sequence[float], reference_losses: Sequence[float]) -> np.ndarray:
    """log2 |R| - log2 rank, bits: 0 for the least likely of all, log2 |R| for a canary above all references.

    Definition 5, with the references as the space of texts: a canary's rank is one more than the number of references
    with a smaller loss (as many as with the same loss count half).

    Args:
      losses: Losses of the canaries, float [n].
      reference_losses: Losses of texts that were not trained on.

    Returns:
      float [n].
    """
    losses, references = np.asarray(losses, float), np.sort(np.asarray(reference_losses, float))
    below = np.searchsorted(references, losses, side="left")
    ties = np.searchsorted(references, losses, side="right") - below
    ranks = np.minimum(1 + below + ties / 2, len(references))
    return np.log2(len(references)) - np.log2(ranks)


def exposure_by_fit(losses: Sequence[float], reference_losses: Sequence[float]) -> np.ndarray:
    """-log2 P[a text's loss is at most the canary's], bits: can exceed what the references' number allows.

    Section 4.3: a skew-normal distribution is fitted to the references' losses and extrapolated.

    Args:
      losses: Losses of the canaries, float [n].
      reference_losses: Losses of texts that were not trained on; a hundred or more, for a good fit.

    Returns:
      float [n].
    """
    shape, location, scale = stats.skewnorm.fit(np.asarray(reference_losses, float))
    # In logarithms: far out the probability itself is 0 in floating point.
    log_probability = stats.skewnorm.logcdf(np.asarray(losses, float), shape, location, scale)
    return -log_probability / np.log(2.0)
