"""`Coordinator`: what `python -m programs.coordinate` runs, from Python."""

from __future__ import annotations

from collections.abc import Sequence

from tff_tx.config import RunConfig, check, coordinated, resolve
from tff_tx.run.callbacks import Callback
from tff_tx.run.trainer import Trainer, load


class Coordinator(Trainer):
    """The trainer of a federation of real participants; `fit` waits until they have joined.

    Each participant runs `python -m programs.participate`; see docs/federation.md.

    Args:
      config: With the participants' names, `data.silos`, in place of training data.
      callbacks: Called beside the rounds, in this order.
      progress: Whether to show progress.

    Raises:
      UserError: If it has training data, settings do not fit together, or something cannot be loaded.
    """

    def __init__(self, config: RunConfig, *, callbacks: Sequence[Callback] = (), progress: bool = True):
        config = coordinated(config)
        check(resolve(config))
        super().__init__(load(config, progress), callbacks=callbacks, progress=progress)
