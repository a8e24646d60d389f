"""A participant of a federation: it makes the plan's computation itself, and answers what its policy allows."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import cohorts, datasets, tasks
from tff_tx.cohorts.client_store import CLIENT_STATES, PERSONAL
from tff_tx.config import RunConfig
from tff_tx.config.capability_rules import STORED
from tff_tx.config.registries import ALGORITHMS
from tff_tx.config.tools import ParticipantConfig
from tff_tx.core import files
from tff_tx.core.errors import Interrupted, UserError
from tff_tx.federation import contents, wire
from tff_tx.federation.arrivals import TRAIN
from tff_tx.federation.engine import FORM, client_of
from tff_tx.federation.envelopes import EnvelopeError, Payload
from tff_tx.federation.evaluation import EVALUATE, layout_of, to_fixed_point, to_weights
from tff_tx.federation.messages_pb2 import Header
from tff_tx.federation.noised import Noised
from tff_tx.federation.policy import Policy, Terms
from tff_tx.federation.retained import ParticipantStates, ParticipantWeights
from tff_tx.federation.secure_rounds import SecureParty, model_digest
from tff_tx.federation.secure_sums import Authority
from tff_tx.federation.worker import Worker
from tff_tx.privacy import Plan
from tff_tx.run import directory
from tff_tx.run.assemble import assembly, own_models, plans, secure
from tff_tx.run.assemble import tasks as task_parts
from tff_tx.run.assemble.aggregation import payload_encoder
from tff_tx.run.assemble.federations import listing_to_json
from tff_tx.run.evaluation import Evaluator
from tff_tx.run.member import Member

_SECRET, _SUMS = "secret", "sums"
_MOST_SUMS = 10  # times as many as a plan has are looked at, for the epsilon of a policy


class Participant(Member):
    """A participant that serves one coordinator, plan after plan.

    Args:
      settings: Where the coordinator, the kit, the data, the policy and the participant's own files are.
      approve: From a plan in words and its digest to whether the operator approves of it; asked once a plan.
      progress: Whether to show progress while data are encoded.

    Raises:
      UserError: If there are no data, the kit or the policy cannot be read.
    """

    def __init__(self, settings: ParticipantConfig, approve: Callable[[str, str], bool], progress: bool = True):
        self._progress, self._files = progress, tuple(map(os.path.abspath, settings.data))
        datasets.require_files(self._files)
        datasets.require_files(tuple(map(os.path.abspath, settings.held_out)))
        self._policy = Policy.load(settings.policy)
        super().__init__(settings, approve, "participant")
        self._config: RunConfig | None = None
        self._task: tuple[Sequence[str], tasks.FederatedTask] | None = None
        self._worker: tuple[Any, Worker] | None = None
        self._assembly: assembly.Assembly | None = None
        self._retained = b""  # the digest of the model in the directory of own models
        self._noised: Noised | None = None
        self._party: Any = None
        self._evaluator: tuple[tasks.FederatedTask, Evaluator, Sequence[str]] | None = None

    # The plan.

    def _take_plan(self, plan: Mapping[str, Any]) -> None:
        own = self._settings
        changes = {
            "data.files": self._files,
            "data.test_files": tuple(map(os.path.abspath, own.held_out)),
            "data.cache_dir": os.path.join(own.state_dir, "cache"),
            **({"model.pretrained": own.pretrained} if own.pretrained else {}),
        }
        self._task, self._config = None, plans.config_of(plan, changes)
        if self.name not in self._config.data.silos:
            raise UserError(f"the plan is for {', '.join(self._config.data.silos)}, not for {self.name}.")
        self._policy.check_plan(self._terms())
        self._ask_once(self._config)
        self._party = self._secure_party() if self._config.aggregation.secure != "none" else None

    def _secure_party(self) -> Any:
        """This participant's end of the plan's secure sums."""
        kit, settings, silos = self._settings.certificate, self._config.aggregation, self._config.data.silos
        identity, authority = wire.load_kit(kit, "participant", silos)
        least = self._policy.least_participants
        if self._config.privacy.is_distributed:  # fewer shares of noise than the accounting assumes hide too little
            least = max(least, secure.least_summed(self._config))
        more = secure.threat_of(self._config), plans.digest(self._plan), len(silos), least
        if settings.secure == "masks":
            return SecureParty(identity, authority, *more)
        from tff_tx.federation.encrypted_rounds import EncryptingParty  # loads TenSEAL

        holders = Authority.load(kit, participants=[settings.key_holder], role="keyholder")
        return EncryptingParty(identity, holders, *more)

    def _terms(self, epsilon: float | None = None, metrics: Sequence[str] = ()) -> Terms:
        config = self._config
        mechanism = config.privacy.mechanism if config.privacy.enabled else None
        return Terms(
            participants=len(config.data.silos),
            rounds=config.run.rounds,
            secure_sums=config.aggregation.secure != "none",
            mechanism=mechanism,
            epsilon=epsilon,
            metrics=metrics,
            tells_labels=plans.tells_labels(config),
        )

    # Messages.

    def _answer(self, header: Header, payload: bytes) -> Payload:
        first, *others = [TRAIN] if self._party is None else self._party.phases
        if header.phase in others:
            return contents.pack({}, self._party.answer(header.phase, contents.split(payload)[1]))
        said, arrays = contents.unpack(payload)
        facts = said.get("facts", {})
        if not isinstance(facts, Mapping):
            raise EnvelopeError("a request has no facts.")
        if header.phase == (EVALUATE if self._party is None else first) and said.get(EVALUATE):
            return self._evaluate(header.round, facts, said, arrays)
        if header.phase == first:
            return self._train(header.round, facts, said, arrays)
        if header.phase == FORM:
            return contents.pack({"form": self._worker_for(facts).digest})
        if header.phase == "listing":
            listing = self._task_for(facts).train.listings[self.name]
            return contents.pack({"found": listing_to_json(listing, self._secret() if self._party else None)})
        if header.phase in ("label_names", "image_shape"):
            with _own_data():
                spec = task_parts.data_spec(self._config)
                found = datasets.in_silo(self.name, getattr(datasets, header.phase), spec)
            return contents.pack({"found": found})
        raise EnvelopeError(f"the plan has no phase {header.phase!r}.")

    def _evaluate(self, round_num: int, facts: Mapping, said: Mapping, arrays: Sequence[Any]) -> Payload:
        """Sums of metrics over this participant's held-out rows."""
        worker, task = self._checked_worker(round_num, facts), self._task_for(facts)
        if not self._config.run.participant_evaluation:
            raise EnvelopeError("the plan has no evaluation at participants.")
        worker.forget_after(_counted(said, round_num))
        model = self._retain(to_weights(said.get("changed"), arrays, [*itertools.chain(*task.model.initial_weights)]))
        if task.test is None:
            raise UserError("there are no held-out rows.")
        if self._party is None and not self._policy.evaluation:
            raise UserError("this participant's policy has evaluation = false, and the plan adds up in the clear.")
        evaluator, client_ids = self._evaluator_of(task)
        sums = [leaf.numpy() for leaf in tf.nest.flatten(evaluator.sums(model, client_ids))]
        if self._party is None:
            return contents.pack({}, contents.encode(sums))
        return self._secured(round_num, facts, worker, arrays, layout_of(sums), to_fixed_point(sums))

    def _evaluator_of(self, task: tasks.FederatedTask) -> tuple[Evaluator, Sequence[str]]:
        """What evaluates, each client by a model of its own if it has one, and on whom."""
        if self._evaluator is None or self._evaluator[0] is not task:
            config = self._config.replace({"run.directory": self._own_weights()})
            own_fn, clients = own_models.in_training(config, task, "test", self.name)
            evaluator = Evaluator(task.model, task.eval_batches_fn(clients), own_fn=own_fn)
            self._evaluator = task, evaluator, clients.client_ids
        return self._evaluator[1:]

    def _retain(self, weights: list[Any] | None) -> Any:
        """The model of weights; where clients have models of their own, it is what these are made of later, too."""
        if weights is None:
            return None
        made, number = self._assembly, len(self._assembly.task.model.initial_weights[0])
        model = tff.learning.models.ModelWeights(weights[:number], weights[number:])
        digest, is_own = model_digest("", weights), ALGORITHMS[self._config.algorithm.name].has_own_models
        if (self._config.model.personal is not None or is_own) and digest != self._retained:
            files.make_private(self._own_weights())
            made.save(model, self._own_weights())
            facts = {name: value for name, value in made.facts().items() if name != "fingerprints"}
            facts |= {"versions": directory.versions(), task_parts.PARTICIPANT: self.name}
            path = os.path.join(self._own_weights(), directory.CONFIG)
            files.write_json(path, {**made.config.to_json(), "facts": facts})
            self._retained = digest
        return model

    def _secured(self, round_num, facts, worker, arrays, layout, leaves) -> Payload:
        """The first answer of a secure sum, bound to the model that was received."""
        key = {"key": facts.get("key")} if self._config.aggregation.secure == "bfv" else {}
        model = model_digest(worker.digest, arrays)
        return contents.pack({}, self._party.begin(round_num, model, layout, leaves, **key))

    def _checked_worker(self, round_num: int, facts: Mapping[str, Any]) -> Worker:
        worker, rounds = self._worker_for(facts), self._config.run.rounds
        if worker.digest != facts.get("form"):
            raise EnvelopeError("the coordinator's computation is not what this participant makes of the plan.")
        if not 1 <= round_num <= rounds:
            raise EnvelopeError(f"round {round_num} is not in the plan, which has {rounds}.")
        return worker

    def _train(self, round_num: int, facts: Mapping, said: Mapping, arrays: Sequence[Any]) -> Payload:
        worker = self._checked_worker(round_num, facts)
        clients = self._named(round_num, said.get("clients"), self._task_for(facts))
        total, failures, waited = worker.train(clients, arrays, _counted(said, round_num - 1))
        self._retain(worker.model(arrays))
        if self._party is None:
            said = {"failures": {str(position): why for position, why in failures.items()}, "data_seconds": waited}
            return contents.pack(said, contents.encode(total, payload_encoder(self._config) is not None))
        for position, why in failures.items():
            logging.warning("round %d: %s: %s", round_num, clients[position]["client_id"].decode(), why)
        if len(failures) == len(clients):
            raise UserError("no client could train, for reasons in this participant's log.")
        if self._noised is not None:
            total = self._noised(worker.layout, total, [client["client_id"].decode() for client in clients])
        return self._secured(round_num, facts, worker, arrays, worker.layout, total)

    @staticmethod
    def _named(round_num: int, named: Any, task: tasks.FederatedTask) -> list[Any]:
        """The clients that a request names."""
        clients = [client_of(plain) for plain in named] if isinstance(named, list) else []
        ids, known = [client["client_id"].decode() for client in clients], set(task.train.client_ids)
        if not ids or len(set(ids)) < len(ids) or not known.issuperset(ids):
            raise EnvelopeError("a request names no clients, or others than this participant's, or one twice.")
        if any(client["round_num"] != round_num for client in clients):
            raise EnvelopeError("a request names clients of another round.")
        return clients

    def _secret(self) -> bytes:
        """What only this participant knows, in its state directory."""
        path = os.path.join(self._settings.state_dir, _SECRET)
        if not os.path.exists(path):
            with files.atomic(path, private=True) as file:
                file.write(secrets.token_hex(32))
        with open(path, encoding="utf-8") as file:
            return bytes.fromhex(file.read())

    # What is made of the plan and the facts, once.

    def _task_for(self, facts: Mapping[str, Any]) -> tasks.FederatedTask:
        names = facts.get("label_names", [])
        if self._task is None or self._task[0] != names:
            config = self._own_config(names)
            self._close_worker()
            with _own_data():
                loaded = task_parts.load_task(config, progress=self._progress)
            self._task = (names, task_parts.with_training(loaded, config))
        return self._task[1]

    def _own_config(self, label_names: Sequence[str]) -> RunConfig:
        """The plan's, of this participant's data alone."""
        labels = {"data.label_names": tuple(map(str, label_names))} if label_names else {}
        return self._config.replace({"data.silos": (self.name,), **labels})

    def _worker_for(self, facts: Mapping[str, Any]) -> Worker:
        task, num_clients = self._task_for(facts), facts.get("num_clients")
        if not isinstance(num_clients, int) or num_clients < len(task.train.client_ids):
            raise EnvelopeError("a request does not say how many clients there are.")
        if self._worker is None or self._worker[0] != num_clients:
            self._close_worker()
            made, self._retained = assembly.Assembly.of_participant(self._config, task, num_clients), b""
            plan, self._assembly = made.plan, dataclasses.replace(made, config=self._own_config(self._task[0]))
            epsilon = plan.figures(plan.rounds)["privacy/epsilon"] if plan else None
            self._policy.check(self._terms(epsilon, [metric.name for metric in task.model.objective.metrics]))
            precision = self._config.client.mixed_precision
            threads = self._settings.threads or len(os.sched_getaffinity(0))
            more = threads, precision, self._policy.operations, self._states()
            worker = Worker(made.process, task.train_batches, *more)
            self._worker = (num_clients, worker)
            self._noised = self._share_of(plan) if self._config.privacy.is_distributed else None
        return self._worker[1]

    def _states(self) -> ParticipantStates | None:
        """What clients retain by the plan's algorithm, in a directory of the plan's own."""
        if STORED.holds(self._config):
            kind = ParticipantStates if self._config.model.personal is None else ParticipantWeights
            where = os.path.join(self._own_weights(), PERSONAL)
        elif ALGORITHMS[self._config.algorithm.name].client_state:
            kind = ParticipantStates
            where = os.path.join(self._settings.state_dir, f"{CLIENT_STATES}_{plans.digest(self._plan)}")
        else:
            return None
        # A coordinator that resumes goes back as far as to its last checkpoint but one.
        return kind(cohorts.ClientStore(where, 2 * self._config.run.rounds_per_checkpoint))

    def _own_weights(self) -> str:
        """Where weights of clients' own are, as in the directory of a run on one machine."""
        return os.path.join(self._settings.state_dir, f"{PERSONAL}_{plans.digest(self._plan)}")

    def _share_of(self, plan: Plan) -> Noised:
        """This participant's share of noise, of the sums that the plan's epsilon allows, or the policy's."""
        count, rounds = plan.ledger.mechanism.participation.count, plan.rounds
        if self._policy.most_epsilon is not None:  # which has been checked for the plan's rounds
            rounds = plan.ledger.rounds_until(self._policy.most_epsilon, _MOST_SUMS * rounds)
        most = count(rounds)
        path = os.path.join(self._settings.state_dir, f"{_SUMS}_{plans.digest(self._plan)}.json")
        return Noised(secure.share_of(self._config, plan), path, most)

    def _close_worker(self) -> None:
        if self._worker is not None:
            self._worker[1].close()
            self._worker = None


@contextlib.contextmanager
def _own_data() -> Iterator[None]:
    """Says here alone what is wrong with data: messages have values, paths and names of columns."""
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        logging.error("the data cannot be used as the plan says: %s", error)
        raise UserError(
            "the data here cannot be used as the plan says, for a reason that is in this participant's log."
        ) from None


def _counted(said: Mapping[str, Any], most: int) -> int:
    """The last round that counted with this participant, as a request says it."""
    counted = said.get("counted", 0)
    if not isinstance(counted, int) or not 0 <= counted <= most:
        raise EnvelopeError("a request does not say which round of this participant counted last.")
    return counted
