"""A participant's policy: what it takes part in, whatever the coordinator asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tff_tx.core.errors import UserError

try:
    import tomllib
except ModuleNotFoundError:  # before Python 3.11
    import tomli as tomllib


@dataclasses.dataclass(frozen=True)
class Terms:
    """What a plan asks of a participant.

    Attributes:
      participants: Number of participants.
      rounds: Number of rounds.
      secure_sums: Whether sums are secure.
      mechanism: Of client-level differential privacy; None: there is none.
      epsilon: What it guarantees after all rounds; None without a mechanism.
      metrics: Names of the metrics of training that leave with the updates.
      tells_labels: Whether names of labels found in the data leave.
    """

    participants: int
    rounds: int
    secure_sums: bool
    mechanism: str | None
    epsilon: float | None
    metrics: Sequence[str]
    tells_labels: bool


@dataclasses.dataclass(frozen=True)
class Policy:
    """Bounds that a participant sets itself, in a TOML file of these names.

    Attributes:
      least_participants: Fewer, and a sum would tell more of this one.
      most_rounds: More are rejected; None: no bound.
      secure_sums_only: Whether sums in the clear are rejected.
      mechanisms: Mechanisms of client-level differential privacy one of which there must be; empty: none need be.
      most_epsilon: Largest epsilon of it; None: no bound.
      metrics: Metrics of training that may leave; None: all.
      label_names: Whether names of labels found in the data may leave.
      evaluation: Whether sums of metrics over its held-out rows may leave in the clear.
      operations: Ops that are allowed besides those this program knows.
    """

    least_participants: int = 1
    most_rounds: int | None = None
    secure_sums_only: bool = False
    mechanisms: tuple[str, ...] = ()
    most_epsilon: float | None = None
    metrics: tuple[str, ...] | None = None
    label_names: bool = True
    evaluation: bool = True
    operations: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | None) -> Policy:
        """Reads a file; None: the defaults, which bound little.

        Raises:
          UserError: If it cannot be read, or has a name or a value that means nothing.
        """
        if path is None:
            return cls()
        try:
            with open(path, "rb") as file:
                found = tomllib.load(file)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}): correct the policy.") from None
        kinds = {"bool": bool, "int": int, "float": (int, float), "tuple": list}
        for name, value in found.items():
            field = cls.__dataclass_fields__.get(name)
            if field is None:
                known = ", ".join(cls.__dataclass_fields__)
                raise UserError(f"{path}: there is no {name} in a policy; it may have {known}.")
            kind = kinds[str(field.type).partition("[")[0].partition(" ")[0]]
            is_wrong = not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))
            if is_wrong or (kind is list and not all(isinstance(item, str) for item in value)):
                raise UserError(f"{path}: {name} = {value!r} must be of the type {field.type}.")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})

    def check_plan(self, terms: Terms) -> None:
        """Checks what a plan says before anything is made of it: all but `epsilon` and `metrics`.

        Raises:
          UserError: With the first bound that it exceeds.
        """
        if terms.participants < self.least_participants:
            self._refuse("least_participants", f"the plan has {terms.participants} participants")
        if self.most_rounds is not None and terms.rounds > self.most_rounds:
            self._refuse("most_rounds", f"the plan has {terms.rounds} rounds")
        if self.secure_sums_only and not terms.secure_sums:
            self._refuse("secure_sums_only", "the plan adds up in the clear")
        if self.mechanisms and terms.mechanism not in self.mechanisms:
            self._refuse("mechanisms", f"the plan has the mechanism {terms.mechanism or 'none'}")
        if terms.tells_labels and not self.label_names:
            self._refuse("label_names", "the plan looks for the labels in the data")

    def check(self, terms: Terms) -> None:
        """Checks all of a plan.

        Raises:
          UserError: With the first bound that it exceeds.
        """
        self.check_plan(terms)
        if self.most_epsilon is not None and (terms.epsilon is None or terms.epsilon > self.most_epsilon):
            self._refuse("most_epsilon", f"the plan has epsilon {terms.epsilon or 'infinity'}")
        if self.metrics is not None and (more := sorted(set(terms.metrics) - set(self.metrics))):
            self._refuse("metrics", f"the plan has {', '.join(more)} leave")

    def _refuse(self, name, found):
        value = getattr(self, name)
        shown = list(value) if isinstance(value, tuple) else value
        raise UserError(f"this participant's policy has {name} = {shown}, and {found}.")
