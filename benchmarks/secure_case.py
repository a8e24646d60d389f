"""One case of `secure_sums`: its vectors, and the line that a contender prints."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """What is summed.

    Attributes:
      clients: How many.
      length: Of each one's float32 vector.
      dropouts: Share of the clients that vanish before they send their masked vector.
      neighbours: Others that each masks with.
      threshold: Shares that rebuild a secret.
    """

    clients: int
    length: int
    dropouts: float
    neighbours: int
    threshold: int

    def arguments(self) -> list[str]:
        """As flags."""
        return [f"--{name}={value}" for name, value in dataclasses.asdict(self).items()]

    @classmethod
    def parse(cls, description: str) -> Case:
        """From the command line."""
        parser = argparse.ArgumentParser(description=description)
        for name, kind in (("clients", int), ("length", int), ("dropouts", float), ("neighbours", int)):
            parser.add_argument(f"--{name}", type=kind, required=True)
        parser.add_argument("--threshold", type=int, required=True)
        return cls(**vars(parser.parse_args()))

    def vector(self, client: int) -> np.ndarray:
        """A client's update, float32 [length], of values below 1."""
        return np.random.default_rng(client).uniform(-1, 1, self.length).astype(np.float32)

    def dropped(self) -> set[int]:
        """Who vanishes."""
        return set(range(round(self.dropouts * self.clients)))

    def report(
        self, mean: np.ndarray, client_seconds: Iterable[float], server_seconds: float, sent: Sequence[int]
    ) -> None:
        """Prints the figures; `sent` are bytes of clients that did not drop out."""
        stayed = [i for i in range(self.clients) if i not in self.dropped()]
        exact = sum(self.vector(i).astype(np.float64) for i in stayed) / len(stayed)
        seconds = list(client_seconds)
        figures = {
            "client_seconds": sum(seconds) / len(seconds),
            "server_seconds": server_seconds,
            "client_bytes": sum(sent) / len(sent),
            "error": float(np.abs(mean - exact).max()),
        }
        print(json.dumps(figures))
