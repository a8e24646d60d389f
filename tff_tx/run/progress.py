"""The progress bar of a run."""

from __future__ import annotations

from collections.abc import Mapping

from tqdm.auto import tqdm

_FIGURES = ("train/loss", "train/accuracy", "eval/loss", "eval/accuracy", "eval/f1", "privacy/epsilon")


class Progress:
    """A bar on standard error over all clients of all rounds, with the last figures; `first` rounds are done."""

    def __init__(self, rounds: int, first: int, show: bool):
        self._rounds, self._show, self._first = rounds, show, first
        self._bar, self._done = None, 0
        self._figures: dict[str, str] = {}

    def __enter__(self):
        return self

    def start_round(self, round_num: int, num_clients: int) -> None:
        """Begins an attempt at a round."""
        self._open(num_clients)
        self._done = 0
        self._bar.set_description(f"round {round_num}/{self._rounds}", refresh=False)

    def prepare_round(self, round_num: int, num_clients: int, done: int, total: int) -> None:
        """Tells of how many clients the data are ready, before a round begins."""
        self._open(num_clients)
        self._bar.set_description(f"round {round_num}/{self._rounds}: features of {done}/{total} clients")

    def _open(self, num_clients):
        if self._bar is None:
            self._bar = tqdm(
                total=self._rounds * num_clients,
                initial=self._first * num_clients,
                unit="client",
                disable=not self._show,
                dynamic_ncols=True,
                mininterval=0.5,
                smoothing=0.05,
            )

    def clients_done(self, done: int) -> None:
        """Tells how many clients of the round are done."""
        self._bar.update(done - self._done)
        self._done = done

    def end_round(self, row: Mapping[str, float]) -> None:
        """Shows a round's figures, by column name of `metrics.csv`."""
        if "train/num_examples" in row:
            rate = row["train/num_examples"] / max(row["time/round_seconds"], 1e-9)
            self._figures["examples/s"] = f"{rate:.0f}"
        for name in _FIGURES:
            if name in row:
                self._figures[name] = f"{row[name]:.3f}"
        self._bar.set_postfix(self._figures)

    def __exit__(self, *unused):
        if self._bar is not None:
            self._bar.close()
