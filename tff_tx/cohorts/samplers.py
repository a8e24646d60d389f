"""All samplers by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tff_tx.cohorts import adaptive, sampling

ADAPTIVE = {fn.__name__: fn for fn in (adaptive.oort, adaptive.power_of_choice, adaptive.bandit)}
"""Those that learn whom to ask."""
_FIXED = (sampling.uniform, sampling.poisson, sampling.by_size, sampling.min_separation, sampling.fixed)
SAMPLERS = {**{fn.__name__: fn for fn in _FIXED}, **ADAPTIVE}


def build_sampler(
    name: str,
    client_ids: Sequence[str],
    clients_per_round: int,
    seed: int | str,
    sizes: Mapping[str, int] | None = None,
    path: str | None = None,
    rounds: int = 0,
    separation: int = 1,
    known: adaptive.Known | None = None,
) -> sampling.Sampler:
    """Builds a sampler of `SAMPLERS`.

    Args:
      name: Its name.
      client_ids: Clients to sample from.
      clients_per_round: The size of a cohort, for `poisson` the mean size; unused by `fixed`.
      seed: Seed of the draws; a text is a secret key.
      sizes: Number of examples by client id, for `by_size`.
      path: The record, for `fixed`.
      rounds: Number of rounds that must be in the record, for `fixed`.
      separation: Minimum number of rounds from one participation of a client to the next, for `min_separation`.
      known: What samplers of `ADAPTIVE` go by.

    Raises:
      UserError: If there are too few clients, or the record of `fixed` cannot be replayed.
    """
    if name == "fixed":
        return sampling.fixed(client_ids, path, rounds)
    own = {"by_size": (sizes,), "min_separation": (separation,), **dict.fromkeys(ADAPTIVE, (known,))}.get(name, ())
    return SAMPLERS[name](client_ids, clients_per_round, seed, *own)
