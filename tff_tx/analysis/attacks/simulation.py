"""Attackers among the clients of a learning process.

Where a client's data are read it is known whether it attacks: an attacker's batches are poisoned there, and a flag
beside them lets the client's work forge the update. Aggregation follows, with its parts that are computed at clients,
such as clipping: attackers cannot bypass them, as a server could compute them too.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import tasks
from tff_tx.config import AttackConfig

_templates = tff.learning.templates
_ATTACKER = collections.OrderedDict(is_attacker=np.bool_, seed=tff.TensorType(np.int64, [2]))
_SALT = 0xA77AC


@dataclasses.dataclass(frozen=True)
class Attack:
    """The behaviour of attackers.

    Attributes:
      data: Data poisoning, such as `LabelFlip`; None: they train on their own data.
      update: Forged updates, such as `SignFlip`; None: they send the update that they compute.
    """

    data: Any = None
    update: Any = None

    def wrap_client_work(self, work: _templates.ClientWorkProcess) -> _templates.ClientWorkProcess:
        """The clients' work with forged updates, for `algorithms.Options.wrap_client_work`.

        A client's data become `OrderedDict(batches, attacker)`, the second a sequence of one
        `OrderedDict(is_attacker, seed)`, as `simulate` makes them.

        Raises:
          ValueError: If updates are not forged.
        """
        if self.update is None:
            raise ValueError("this attack forges no updates.")
        return _wrap_together(self.update, work) if hasattr(self.update, "omniscient") else _wrap(self.update, work)


@dataclasses.dataclass(frozen=True)
class AttackKind:
    """An attack that can be chosen by name.

    Attributes:
      build: From (settings, clients per round, task) to the attack; None: there is none.
      settings: Fields of `tff_tx.config.AttackConfig` that it reads, besides name and share.
      needs_task: Capability that the task must have; None: any task can be attacked.
      forges_updates: Whether attackers forge the update that they send.
      changes_inputs: Whether attackers change the inputs of examples, which stored activations do not show.
    """

    build: Callable[[AttackConfig, int, Any], Attack] | None
    settings: tuple[str, ...] = ()
    needs_task: str | None = None
    forges_updates: bool = False
    changes_inputs: bool = False


NONE = AttackKind(build=None)


def choose_attackers(client_ids: Sequence[str], share: float, seed: int) -> list[str]:
    """Draws a share of the clients, rounded, as attackers: the same for the same ids and seed, in the order of the ids.

    Raises:
      ValueError: If the share is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}: must be from 0 to 1.")
    number = int(np.floor(share * len(client_ids) + 0.5))
    chosen = np.random.default_rng([seed, _SALT]).choice(len(client_ids), number, replace=False)
    return [client_ids[i] for i in sorted(chosen)]


def simulate(
    task: Any, process: _templates.LearningProcess, attack: Attack, attackers: Sequence[str]
) -> _templates.LearningProcess:
    """The process with clients named by `tasks.client_arguments`, some of them attackers: in place of `task.process`.

    Args:
      task: A `tasks.FederatedTask`.
      process: Built with `Options.wrap_client_work=attack.wrap_client_work`, if the attack is on updates.
      attack: The attackers' behaviour.
      attackers: Their client ids.
    """
    ids = [a.encode() for a in attackers]

    @tff.tensorflow.computation(tasks.CLIENT)
    def client_data(client):
        is_attacker = tf.reduce_any(tf.equal(client["client_id"], tf.constant(ids, tf.string, [len(ids)])))
        batches = task.client_batches(client)
        if attack.data is not None:

            def poison(x, y):
                return tf.cond(is_attacker, lambda: attack.data.poison(x, y), lambda: (x, y))

            batches = batches.map(poison)
        if attack.update is None:
            return batches
        seed = tf.random.experimental.stateless_fold_in(client["seed"], tf.constant(_SALT, tf.int64))
        attacker = tf.data.Dataset.from_tensors(collections.OrderedDict(is_attacker=is_attacker, seed=seed))
        return collections.OrderedDict(batches=batches, attacker=attacker)

    @tff.federated_computation(
        process.initialize.type_signature.result, tff.FederatedType(tff.to_type(tasks.CLIENT), tff.CLIENTS)
    )
    def next_fn(state, clients):
        return process.next(state, tff.federated_map(client_data, clients))

    return _templates.LearningProcess(
        process.initialize,
        next_fn,
        process.get_model_weights,
        process.set_model_weights,
        get_hparams_fn=process.get_hparams,
        set_hparams_fn=process.set_hparams,
    )


def _types(work):
    """The types of a work's state, weights, data with attackers, and update."""
    state_type, weights_type, data_type = (work.next.type_signature.parameter[i] for i in range(3))
    attacked = collections.OrderedDict(batches=data_type.member, attacker=tff.SequenceType(tff.to_type(_ATTACKER)))
    update_type = work.next.type_signature.result.result.member.update
    return state_type, weights_type, tff.FederatedType(tff.to_type(attacked), tff.CLIENTS), update_type


def _wrap(update_attack, work):
    state_type, weights_type, data_type, update_type = _types(work)

    @tff.tensorflow.computation(update_type, data_type.member.attacker)
    def forge(update, attacker):
        who = attacker.get_single_element()
        return tf.cond(
            who["is_attacker"],
            lambda: update_attack.forge(update, who["seed"]),
            lambda: tf.nest.map_structure(tf.identity, update),
        )

    @tff.federated_computation(state_type, weights_type, data_type)
    def next_fn(state, weights, data):
        output = work.next(state, weights, data["batches"])
        forged = tff.federated_map(forge, (output.result.update, data["attacker"]))
        result = tff.federated_zip(_templates.ClientResult(forged, output.result.update_weight))
        return tff.templates.MeasuredProcessOutput(output.state, result, output.measurements)

    return _templates.ClientWorkProcess(
        work.initialize, next_fn, get_hparams_fn=work.get_hparams, set_hparams_fn=work.set_hparams
    )


def _wrap_together(update_attack, work):
    """Attackers that know each other's updates of the previous round, through the state of the clients' work."""
    state_type, weights_type, data_type, update_type = _types(work)
    known_type = tff.to_type(collections.OrderedDict(known=np.bool_, mean=update_type, deviation=update_type))

    @tff.tensorflow.computation
    def nothing_known():
        zeros = tff.types.structure_from_tensor_type_tree(lambda t: tf.zeros(t.shape, t.dtype), update_type)
        return collections.OrderedDict(known=tf.constant(False), mean=zeros, deviation=zeros)

    @tff.tensorflow.computation(update_type, data_type.member.attacker, known_type)
    def forge(update, attacker, known):
        is_attacker = attacker.get_single_element()["is_attacker"]
        forged = tf.cond(
            is_attacker & known["known"],
            lambda: update_attack.forge_together(known["mean"], known["deviation"]),
            lambda: tf.nest.map_structure(tf.identity, update),
        )
        counts = tf.constant(True) if update_attack.omniscient else is_attacker
        share = tf.cast(counts, tf.float32)
        sums = collections.OrderedDict(
            number=share,
            total=tf.nest.map_structure(lambda leaf: share * leaf, update),
            squares=tf.nest.map_structure(lambda leaf: share * leaf**2, update),
        )
        return forged, sums

    @tff.tensorflow.computation(known_type, forge.type_signature.result[1])
    def learn(known, sums):
        number = tf.maximum(sums["number"], 1.0)
        mean = tf.nest.map_structure(lambda total: total / number, sums["total"])
        deviation = tf.nest.map_structure(
            lambda squares, mu: tf.sqrt(tf.maximum(squares / number - mu**2, 0.0)), sums["squares"], mean
        )
        learned = collections.OrderedDict(known=tf.constant(True), mean=mean, deviation=deviation)
        return tf.nest.map_structure(lambda new, old: tf.where(sums["number"] >= 2.0, new, old), learned, known)

    @tff.federated_computation
    def initialize():
        known = tff.federated_eval(nothing_known, tff.SERVER)
        return tff.federated_zip(collections.OrderedDict(work=work.initialize(), known=known))

    @tff.federated_computation(initialize.type_signature.result, weights_type, data_type)
    def next_fn(state, weights, data):
        output = work.next(state["work"], weights, data["batches"])
        known = tff.federated_broadcast(state["known"])
        forged = tff.federated_map(forge, (output.result.update, data["attacker"], known))
        learned = tff.federated_map(learn, (state["known"], tff.federated_sum(forged[1])))
        result = tff.federated_zip(_templates.ClientResult(forged[0], output.result.update_weight))
        new_state = tff.federated_zip(collections.OrderedDict(work=output.state, known=learned))
        return tff.templates.MeasuredProcessOutput(new_state, result, output.measurements)

    return _templates.ClientWorkProcess(initialize, next_fn)
