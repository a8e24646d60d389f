"""The coordinator of a configuration: where participants join, what they are asked for before the first round."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import datasets, models, runtime, tasks
from tff_tx.config import RunConfig
from tff_tx.core.certificates import participants_beside
from tff_tx.core.errors import UserError, setting
from tff_tx.federation import contents, evaluation
from tff_tx.federation.answers import ask
from tff_tx.federation.arrivals import Arrivals
from tff_tx.federation.buffered_engine import BufferedFederationEngine
from tff_tx.federation.engine import FederationEngine
from tff_tx.federation.envelopes import EnvelopeError
from tff_tx.federation.hub import Hub, Limits
from tff_tx.federation.secure_rounds import SecureRounds
from tff_tx.federation.secure_sums import SecureSumError
from tff_tx.run.assemble import cohorts, plans, secure
from tff_tx.run.assemble.aggregation import payload_encoder


class Federation(Hub):
    """The participants of a configuration that is resolved; a context manager.

    Raises:
      UserError: As of `Hub`.
    """

    def __init__(self, config: RunConfig):
        engine, plan = config.engine, plans.plan_of(config)
        kit = engine.federation_certificate
        super().__init__(
            engine.federation_address,
            kit,
            engine.federation_participants or participants_beside(kit),
            config.data.silos,
            plans.digest(plan),
            plan,
            Limits(engine.federation_join_seconds, engine.federation_phase_seconds, engine.federation_silence_seconds),
            others=(config.aggregation.key_holder,) if config.aggregation.secure == "bfv" else (),
            relay=engine.federation_socket if engine.federation_transport == "flower" else None,
        )

    def on_silos(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """What participants tell of their data, by name, as `RayCluster.on_silos`; of no functions but these three.

        Raises:
          UserError: If a participant refuses, cannot read its data or does not join.
        """
        self.wait()
        said = {}
        if function is datasets.load_silo:
            said, phase, read = {"facts": {"label_names": list(arguments[1].label_names)}}, "listing", listing_of
        elif arguments[0] is datasets.label_names:
            phase, read = "label_names", lambda found: tuple(map(str, found))
        else:
            phase, read = "image_shape", lambda found: tuple(map(int, found))
        answers, failures = ask(self, 0, phase, dict.fromkeys(self.names, contents.pack(said)))
        for reason in failures.values():  # each begins with the participant's name
            raise UserError(
                f"{setting('data.silos')}: {reason.rstrip('.')}; put that right there, and give the same command again."
            )
        try:
            return {name: read(answer["found"]) for name, (answer, _) in sorted(answers.items())}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{setting('data.silos')}: what a participant told is nothing of the kind: {error}."
            ) from None


def build_engine(
    config: RunConfig, process: tff.learning.templates.LearningProcess, found: Federation, task: tasks.FederatedTask
) -> FederationEngine:
    """The engine of a federation, whose participants make the same process.

    Raises:
      UserError: If one does not join, refuses, or makes another.
    """
    facts = {"label_names": list(task.label_names), "num_clients": len(task.train.client_ids)}
    found.wait()
    rounds, more = _secure_rounds(config, found)
    kind, own = FederationEngine, {}
    if config.cohort.is_buffered:
        staleness = runtime.Staleness(config.cohort.max_staleness, config.cohort.staleness_exponent)
        kind, own = BufferedFederationEngine, {"arrivals": _arrivals(config, found, task), "staleness": staleness}
    engine = kind(
        process,
        found,
        lambda client: datasets.silo_of(client["client_id"].decode()),
        {**facts, **more},
        payload_encoder(config) is not None,
        rounds,
        **own,
    )
    engine.check_forms(config.data.silos)
    return engine


def _arrivals(config, found, task):
    """The participants at work, of FedBuff."""
    seed, clients = config.run.seed, task.train
    return Arrivals(
        found,
        datasets.silo_of,
        cohorts.build_sampler(config, clients.client_ids, clients.sizes(), seed),
        lambda client_ids, round_num: tasks.client_arguments(client_ids, seed, round_num),
        concurrency=config.cohort.num_concurrent,
        buffer_size=config.cohort.buffer_size,
        max_staleness=config.cohort.max_staleness,
    )


def _secure_rounds(config, found):
    """From the layout of contributions to secure sums, None without; and what participants need to know for them."""
    seconds, run = config.engine.federation_secure_seconds, plans.digest(plans.plan_of(config))
    if config.aggregation.secure == "masks":
        return lambda layout: SecureRounds(found, layout, secure.threat_of(config), run, seconds), {}
    if config.aggregation.secure != "bfv":
        return None, {}
    from tff_tx.federation import encrypted_rounds  # loads TenSEAL

    holder = config.aggregation.key_holder
    try:
        public = encrypted_rounds.ask_public_key(found, holder)
        public.checked(run, found.key_holders(holder))
    except SecureSumError as error:
        raise UserError(f"{setting('aggregation.key_holder')}={holder}: {error}") from error

    def rounds(layout):
        more = public, holder, found.key_holders(holder)
        return encrypted_rounds.EncryptedRounds(found, layout, secure.threat_of(config), run, seconds, *more)

    return rounds, {"key": encrypted_rounds.to_json(public)}


def participant_metrics(
    engine: FederationEngine, model: models.TransformerModel, weights: tff.learning.models.ModelWeights
) -> dict[str, float]:
    """Metrics over the held-out rows of all participants, participants/METRIC, and in the clear of each by its name."""
    zero = model.initialize_metrics_state()
    initial, leaves = model.initial_weights, [np.asarray(leaf) for leaf in tf.nest.flatten(zero)]
    try:
        found = engine.evaluate([*weights.trainable, *weights.non_trainable], [*initial[0], *initial[1]], leaves)
    except EnvelopeError as error:
        logging.warning("the model has not been evaluated at participants: %s", error)
        return {}
    every = {f"participants/{name}": sums for name, sums in found.items() if name}
    every["participants"] = found.get("") or evaluation.added(found)
    metrics = {}
    for name, sums in every.items():
        values = model.finalize_metrics(tf.nest.pack_sequence_as(zero, list(map(tf.constant, sums))))
        metrics.update({f"{name}/{metric}": np.asarray(value).item() for metric, value in values.items()})
    return metrics


def listing_to_json(listing: datasets.Listing, secret: bytes | None = None) -> dict[str, Any]:
    """What leaves a participant of its listing: not where its store is.

    Args:
      listing: Of its training data.
      secret: Of a participant in secure sums: its clients have one example each, as far as is told, and the fingerprint
        of its data fits no guess without it; None: all is told.
    """
    spec = {name: [s.dtype.name, s.shape.as_list()] for name, s in listing.element_spec.items()}
    told = {name: getattr(listing, name) for name in ("sizes", "example_bytes", "fingerprint")}
    if secret is not None:
        told = {name: dict.fromkeys(listing.sizes, 1) for name in ("sizes", "example_bytes")}
        told["fingerprint"] = hmac.digest(secret, listing.fingerprint.encode(), "sha256").hex()
    return {"element_spec": [[name, *parts] for name, parts in spec.items()], **told}


def listing_of(told: Mapping[str, Any]) -> datasets.Listing:
    """The listing of `listing_to_json`."""
    spec = {str(name): tf.TensorSpec(shape, tf.as_dtype(dtype)) for name, dtype, shape in told["element_spec"]}
    sizes = {str(client): int(size) for client, size in told["sizes"].items()}
    lengths = {str(client): float(told["example_bytes"][client]) for client in sizes}
    return datasets.Listing("", spec, sizes, lengths, str(told["fingerprint"]))
