"""An aggregator defined outside of the package: a record, registered by name, chosen by the configuration."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tff_tx import algorithms
from tff_tx.aggregators import Aggregator
from tff_tx.config import RunConfig
from tff_tx.config.registries import AGGREGATORS
from tff_tx.run.assemble.aggregation import build_aggregation
from tff_tx.runtime import LocalEngine


# The plug-in.
class MajorityVote(tff.aggregators.UnweightedAggregationFactory):
    """The sign that most clients' updates have, coordinate by coordinate (Bernstein et al. 2019, signSGD)."""

    def create(self, value_type):
        inner = tff.aggregators.SumFactory().create(value_type)
        signs = tff.tensorflow.computation(lambda value: tf.nest.map_structure(tf.sign, value), value_type)

        @tff.federated_computation(inner.initialize.type_signature.result, tff.FederatedType(value_type, tff.CLIENTS))
        def next_fn(state, value):
            output = inner.next(state, tff.federated_map(signs, value))
            vote = tff.federated_map(signs, output.result)
            return tff.templates.MeasuredProcessOutput(output.state, vote, output.measurements)

        return tff.templates.AggregationProcess(inner.initialize, next_fn)


MAJORITY_VOTE = Aggregator(lambda settings, cohort: MajorityVote(), breakdown=0.5)
# Its end.


@pytest.fixture
def registered(monkeypatch):
    """The plug-in in the registry, for the length of a test."""
    monkeypatch.setattr(AGGREGATORS, "_entries", dict(AGGREGATORS._entries))
    AGGREGATORS.register("majority_vote")(MAJORITY_VOTE)


def test_a_plug_in_is_chosen_by_its_name_and_trains(registered):
    config = RunConfig.of({"aggregation.aggregator": "majority_vote"})
    sgd = algorithms.build_optimizer("sgd", 1.0)
    options = algorithms.Options(lambda rate: sgd, sgd, **build_aggregation(config))
    clients = [tiny.batches(*tiny.client_data(n, seed=n), 4) for n in (7, 12, 3)]
    with LocalEngine(algorithms.build_fed_avg(tiny.linear_model(), options)) as engine:
        state = engine.initialize()
        for _ in range(2):
            before = tiny.weights_of(state)
            state = engine.run_round(state, clients).state
            steps = np.concatenate([(a - b).ravel() for a, b in zip(tiny.weights_of(state), before)])
            assert set(np.unique(steps)) <= {-1.0, 0.0, 1.0}
            assert np.abs(steps).sum() > 0
