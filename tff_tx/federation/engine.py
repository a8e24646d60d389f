"""The engine of a federation: participants train their own clients, and what comes back are sums."""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import UserError, setting
from tff_tx.federation import contents, evaluation
from tff_tx.federation.answers import ask
from tff_tx.federation.arrivals import TRAIN
from tff_tx.federation.envelopes import EnvelopeError, Payload
from tff_tx.federation.evaluation import EVALUATE
from tff_tx.federation.hub import Hub
from tff_tx.federation.layout import Layout
from tff_tx.federation.retained import CountedRounds
from tff_tx.federation.secure_rounds import SecureRounds, model_digest
from tff_tx.federation.secure_sums import SecureSumError
from tff_tx.federation.worker import digest_of
from tff_tx.runtime.client_states import retained_leaves
from tff_tx.runtime.engine import Gathered, ProcessEngine
from tff_tx.runtime.form import RoundForm
from tff_tx.runtime.hooks import Hook, Job
from tff_tx.runtime.rounds import TooFewClientsError

FORM = "form"
"""The phase of the comparison of forms before the first round."""


class FederationEngine(ProcessEngine):
    """Runs rounds at the participants of a federation.

    A participant is sent the weights and which of its clients train, and answers with the sum of their contributions:
    of one client, that is its update. Sums are added up in the order of the cohort, by the first client of each. A
    participant that gives none within the limits is left out with its clients.

    Args:
      process: Of clients given as datasets; participants make the same process from the plan.
      hub: Where they join.
      participant_fn: From a client to the name of its participant.
      facts: What participants need to know besides the plan to make the process, told with every request.
      compressed: Whether payloads are entropy-coded, as pays where updates are compressed.
      secure_fn: From the layout of contributions to secure sums; None: participants' sums are in the clear.
      hooks: Of `ProcessEngine`.

    Raises:
      UserError: If a participant refuses, or makes another process of the plan.
    """

    def __init__(
        self,
        process: tff.learning.templates.LearningProcess,
        hub: Hub,
        participant_fn: Callable[[Any], str],
        facts: Mapping[str, Any],
        compressed: bool = False,
        secure_fn: Callable[[Layout], SecureRounds] | None = None,
        hooks: Sequence[Hook] = (),
    ):
        form = RoundForm.of(process)
        self._counted = CountedRounds(hub.names, participant_fn)
        has_states = retained_leaves(form.type_signature("work").result)
        super().__init__(process, form, [*([self._counted] if has_states else []), *hooks])
        self._merge, self._hub = form.graph("merge").whole(), hub
        self._participant_fn, self._compressed, self._asked, self._round_num = participant_fn, compressed, 0, 0
        leaves = self.parts.prepare(*self.parts.initialize())
        constants = [leaves[i] for i in sorted(self.parts.constants)]
        self._facts = {**facts, "form": digest_of(form, constants)}
        self._secure = None if secure_fn is None else secure_fn(Layout.of(self.parts))
        self._zeros = {i: leaf for i, leaf in enumerate(self.parts.zero()) if i in has_states}
        leaves = [leaf for i, leaf in enumerate(self.parts.zero()) if i not in has_states]
        self._specs = [tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in leaves]

    def check_forms(self, names: Sequence[str]) -> None:
        """Has participants make the process, and compare it with this one."""
        said = {"facts": self._facts}
        answers, failures = ask(self._hub, 0, FORM, dict.fromkeys(names, contents.pack(said)))
        for reason in failures.values():  # each begins with the participant's name
            raise UserError(
                f"{setting('data.silos')}: {reason.rstrip('.')}; put that right there, and give the same command again."
            )
        for name, (said, _) in answers.items():
            if said.get("form") != self._facts["form"]:
                raise UserError(
                    f"{setting('data.silos')}: {name} makes another computation of the plan than the coordinator: both "
                    "need the same version of this program and the same checkpoint."
                )

    def evaluate(self, weights: Sequence[Any], initial: Sequence[Any], zero: Sequence[Any]) -> dict[str, list]:
        """Sums of metrics over held-out rows of participants, by their names; secure sums of all by the name "".

        Args:
          weights: Of the model, the trainable ones first.
          initial: Those that participants make themselves.
          zero: The sums over no rows.

        Raises:
          EnvelopeError: If no participant gives any, or secure sums have too few.
        """
        changed, arrays = evaluation.to_arrays(weights, initial)
        self._asked += 1
        said = {"facts": self._facts, "attempt": self._asked, EVALUATE: True, "changed": changed}
        sent = contents.encode(arrays, self._compressed)
        requests = {n: contents.pack({**said, "counted": self._counted.of(n)}, sent) for n in self._hub.names}
        found, failures = {}, {}
        if self._secure is not None:
            layout, model = evaluation.layout_of(zero), model_digest(self._facts["form"], arrays)
            try:
                total, failures = self._secure.sum(self._round_num, model, requests, layout=layout)
            except SecureSumError as error:
                raise EnvelopeError(str(error)) from error
            found[""] = evaluation.from_fixed_point(total, zero)
        else:
            answers, failures = ask(self._hub, self._round_num, EVALUATE, requests)
            for name, (_, sums) in answers.items():
                try:
                    contents.require_like(sums, [np.asarray(leaf) for leaf in zero], name)
                    found[name] = sums
                except EnvelopeError as error:
                    failures[name] = str(error)
        for reason in failures.values():
            logging.warning("evaluation after round %d: %s", self._round_num, reason)
        if not found:
            raise EnvelopeError("; ".join(failures.values()))
        return found

    def model_weights(self, state: Any) -> Any:
        """As of all engines; participants then evaluate with what their clients retained until this state."""
        if self._counted in self.hooks:
            self._counted.go_on(state)
        return super().model_weights(state)

    def _collect(self, clients: Sequence[Any], job_fn: Callable[[Any], Job], gathered: Gathered) -> list:
        if not clients:
            return self.parts.zero()
        jobs, positions = [job_fn(client) for client in clients], collections.OrderedDict()
        for position, job in enumerate(jobs):
            positions.setdefault(self._participant_fn(job.client), []).append(position)
        changing = self._changing(jobs[0].broadcast)
        arrays = contents.encode(changing, self._compressed)
        requests = {name: self._request([jobs[p].client for p in own], arrays) for name, own in positions.items()}
        gathered.clock.stop("prepare")
        self._round_num = round_num = int(jobs[0].client["round_num"])
        if self._secure is None:
            return self._sum(round_num, positions, requests, gathered)
        return self._secure_sum(round_num, model_digest(self._facts["form"], changing), positions, requests, gathered)

    def _changing(self, broadcast: list) -> list:
        """What travels of a broadcast."""
        return [leaf for i, leaf in enumerate(broadcast) if i not in self.parts.constants]

    def _request(self, clients: Sequence[Any], arrays: bytes) -> Payload:
        """Has a participant's clients train on a model; no two requests are the same."""
        self._asked += 1  # another attempt at a round is of other clients
        said = {"facts": self._facts, "attempt": self._asked, "clients": [_plain(client) for client in clients]}
        return contents.pack({**said, "counted": self._counted.of(self._participant_fn(clients[0]))}, arrays)

    def _sum(self, round_num: int, positions: Mapping[str, list[int]], requests: Mapping[str, Any], gathered) -> list:
        """The sum of contributions, in the clear: one phase.

        Args:
          round_num: The round.
          positions: Of each participant's clients in the cohort.
          requests: To each participant: the weights, and which of its clients train.
          gathered: What comes in besides.
        """
        answers, failures = ask(self._hub, round_num, TRAIN, requests)
        gathered.clock.stop("clients")
        total, gathered.seconds["data"] = self.parts.zero(), 0.0
        for name, own in positions.items():
            try:
                if name in failures:
                    raise EnvelopeError(failures[name])
                total = self._merge(*total, *self._checked(name, own, *answers[name], gathered))
            except EnvelopeError as error:
                gathered.failures.update(dict.fromkeys(own, str(error)))
        gathered.progress(sum(map(len, positions.values())) - len(gathered.failures))
        gathered.clock.stop("aggregation")
        return total

    def _secure_sum(self, round_num, model, positions, requests, gathered) -> list:
        """The same by secure sums. Which clients of a participant failed, and why, does not leave it."""

        def on_phase(phase):
            gathered.clock.stop("clients" if phase == self._secure.training_phase else "aggregation")

        def require(names):
            if (left := sum(len(positions[name]) for name in names)) < gathered.min_clients:
                gone = {p: f"{name} has not trained" for name in positions.keys() - names for p in positions[name]}
                raise TooFewClientsError(left, gathered.min_clients, gone)

        try:
            total, failures = self._secure.sum(round_num, model, requests, on_phase, require=require)
        except SecureSumError as error:
            everyone = range(sum(map(len, positions.values())))
            raise TooFewClientsError(0, 1, dict.fromkeys(everyone, str(error))) from error
        for name, reason in failures.items():
            gathered.failures.update(dict.fromkeys(positions[name], reason))
        gathered.progress(sum(map(len, positions.values())) - len(gathered.failures))
        return [tf.convert_to_tensor(leaf) for leaf in total]

    @property
    def _measures_uploads(self) -> bool:
        return self._compressed

    def _checked(self, name: str, own: list[int], said: dict, arrays: list[np.ndarray], gathered: Gathered) -> list:
        """A participant's sum, if it can be one; what it says of its clients goes into `gathered`."""
        contents.require_like(arrays, self._specs, name)
        try:
            failures = {own[int(number)]: str(why)[:300] for number, why in said["failures"].items()}
            waited, size = float(said["data_seconds"]), int(said["bytes"])
        except (KeyError, ValueError, IndexError, TypeError, AttributeError, OverflowError):
            raise EnvelopeError(f"{name} does not say what became of its clients") from None
        gathered.failures.update(failures)
        gathered.seconds["data"] += waited
        gathered.sent_bytes += [size] * (len(own) - len(failures)) if self._compressed else []
        sent = map(tf.convert_to_tensor, arrays)
        return [self._zeros[i] if i in self._zeros else next(sent) for i in range(len(self._zeros) + len(arrays))]


def _plain(client: Mapping[str, Any]) -> dict[str, Any]:
    """A client of `tasks.client_arguments` as JSON has it."""
    return {
        "client_id": client["client_id"].decode(),
        "round_num": int(client["round_num"]),
        **{name: [int(part) for part in client[name]] for name in ("seed", "order")},
    }


def client_of(plain: Mapping[str, Any]) -> collections.OrderedDict:
    """The inverse of what requests say of a client.

    Raises:
      EnvelopeError: If it is none.
    """
    try:
        return collections.OrderedDict(
            client_id=str(plain["client_id"]).encode(),
            seed=np.array(plain["seed"], np.int64).reshape([2]),
            order=np.array(plain["order"], np.int64).reshape([2]),
            round_num=np.int64(plain["round_num"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise EnvelopeError("a request names a client that is none.") from None
