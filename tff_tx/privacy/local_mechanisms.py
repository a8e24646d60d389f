"""Mechanisms of clients: noise in their updates, or in their local steps."""

from __future__ import annotations

import dataclasses
import math

import dp_accounting

from tff_tx.core.errors import UserError
from tff_tx.privacy.mechanism import ADD_OR_REMOVE, REPLACE, ZERO_OUT, Mechanism, OneGaussian, Participation


@dataclasses.dataclass(frozen=True)
class LocalGaussian(OneGaussian):
    """Every client clips and noises its update before anything leaves it: local differential privacy.

    Adjacency: replace-one, of a client's data by any other, for whoever sees that client's updates, the server
    included. Two clipped updates are twice the clip norm apart.

    Attributes:
      noise_multiplier: Of every client's update.
      clients_per_round: Size of a cohort; the sum over it has the noise of all.
      participation: Rounds a client may take part in.
    """

    clients_per_round: float = 1
    participation: Participation = Participation()

    name = "Gaussian noise added by every client to its own update (local)"
    setting = "local: the server is not trusted, noise is added by every client"
    output = "every update that leaves a client, and so the models of all rounds"
    relation = REPLACE + "; the rounds that a client takes part in are not hidden"

    @property
    def sampling_assumption(self):
        return super().sampling_assumption + ", shuffling or aggregation"

    def sensitivity(self, rounds):
        return 2 * math.sqrt(self.participation.count(rounds))

    def sum_stddev(self, rounds):
        return self.noise_multiplier * math.sqrt(self.clients_per_round * rounds)


@dataclasses.dataclass(frozen=True)
class ExampleLevelSgd(Mechanism):
    """DP-SGD inside one client (Abadi et al. 2016, https://arxiv.org/abs/1607.00133): hides each of its examples.

    The guarantee is of one client's examples, against everyone but that client; it differs from client to client, and
    the run's is that of the worst: with Poisson sampling that with the fewest examples. Adjacency: add-or-remove-one
    example with Poisson sampling, zero-out else. With microbatches of several examples, one changes a clipped mean by
    up to twice the clip norm (Ponomareva et al. 2023, https://arxiv.org/abs/2303.00654, Section 5.6).

    Attributes:
      noise_multiplier: Of the sum over a batch.
      num_examples: Of the client.
      batch_size: Examples a batch, mean number with Poisson sampling.
      steps: Batches a round.
      sampling: poisson; or none: examples are shuffled and dealt out, each once a pass.
      microbatch_size: Examples that are clipped together.
      example: What an example is, for statements: a record of the data may be in several.
      participation: Rounds the client may take part in.

    Raises:
      UserError: If a number is out of range.
    """

    num_examples: int = 1
    batch_size: int = 1
    steps: int = 1
    sampling: str = "none"
    microbatch_size: int = 1
    participation: Participation = Participation()
    example: str = ""

    unit = "example"
    name = "Gaussian noise in every step of the clients' training (DP-SGD)"
    setting = (
        "within each client: the server and other clients are not trusted, noise is added by the client, and only "
        "single examples are hidden, not clients"
    )
    output = "every step of a client's training, and so its updates and the models of all rounds"

    def __post_init__(self):
        super().__post_init__()
        if self.sampling not in ("poisson", "none"):
            raise UserError(f"sampling={self.sampling}: must be poisson or none for DP-SGD.")
        for name in ("num_examples", "batch_size", "steps", "microbatch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: must be at least 1.")

    @property
    def protected(self):
        of_client = f"one of the {self.num_examples:,} examples of a client (the smallest client, where they differ)"
        return f"{of_client}; an example is {self.example}" if self.example else of_client

    @property
    def relation(self):
        return ADD_OR_REMOVE if self.sampling == "poisson" else ZERO_OUT

    @property
    def sampling_assumption(self):
        rounds, number = self.participation.describe(), f"{self.num_examples:,}"
        if self.sampling == "poisson":
            return (
                f"{rounds}; a batch has each of a client's {number} examples independently with probability "
                f"{min(1.0, self.batch_size / self.num_examples):.4g} (Poisson)"
            )
        return (
            f"{rounds}; a client's {number} examples are dealt out to batches, each once a pass; no amplification by "
            "sampling"
        )

    def event(self, rounds):
        noise_multiplier = self.noise_multiplier / (2 if self.microbatch_size > 1 else 1)
        one = dp_accounting.GaussianDpEvent(noise_multiplier)
        visits = self.participation.count(rounds)
        if self.sampling == "poisson" and self.batch_size < self.num_examples:
            one = dp_accounting.PoissonSampledDpEvent(self.batch_size / self.num_examples, one)
            return dp_accounting.SelfComposedDpEvent(one, visits * self.steps)
        uses = min(self.steps, math.ceil(self.steps * self.batch_size / self.num_examples))
        return dp_accounting.GaussianDpEvent(noise_multiplier / math.sqrt(visits * uses))

    def sum_stddev(self, rounds):
        return self.noise_multiplier * math.sqrt(rounds * self.steps)
