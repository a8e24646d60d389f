"""What is known of a metric besides its value."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Metric:
    """A figure of evaluation.

    Attributes:
      name: As evaluation gives it, such as "accuracy".
      title: For tables and plots.
      higher_is_better: The direction; None for counts, which are neither good nor bad.
      format: How a value is printed, a format specification.
      plotted: Whether reports plot it.
    """

    name: str
    title: str
    higher_is_better: bool | None = True
    format: str = ".4f"
    plotted: bool = True


LOSS = Metric("loss", "Loss", higher_is_better=False)
ACCURACY = Metric("accuracy", "Accuracy")
COUNTS = (
    Metric("num_examples", "Examples", None, ",", plotted=False),
    Metric("num_items", "Items", None, ",", plotted=False),
)
"""How many examples metrics are over, and how many labelled items the loss is the mean of."""
