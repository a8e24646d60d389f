"""Rounds of an aggregator alone, by the graphs that engines run: secure sums as plain arithmetic modulo M."""

from __future__ import annotations

import collections
import types

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.runtime import form as form_lib


def run(factory, value_type, weight_type, rounds):
    """The results of rounds, each a list of (value, weight); and the form that they were run by."""
    weighted = isinstance(factory, tff.aggregators.WeightedAggregationFactory)
    process = factory.create(value_type, weight_type) if weighted else factory.create(value_type)
    client_type = tff.to_type(collections.OrderedDict(value=value_type, weight=weight_type))

    @tff.federated_computation
    def initialize():
        return process.initialize()

    @tff.federated_computation(initialize.type_signature.result, tff.FederatedType(client_type, tff.CLIENTS))
    def next_fn(state, client):
        extra = (client.weight,) if weighted else ()
        output = process.next(state, client.value, *extra)
        return output.state, output.result

    form = form_lib.RoundForm.of(types.SimpleNamespace(initialize=initialize, next=next_fn))
    part = {name: form.graph(name).whole() for name in form.computations}
    state, results = part["initialize"](), []
    for clients in rounds:
        broadcast, total = part["prepare"](*state), part["zero"]()
        for client in clients:
            leaves = form_lib.flatten(collections.OrderedDict(zip(("value", "weight"), client)), client_type)
            leaves = [tf.convert_to_tensor(leaf) for leaf in leaves]
            total = part["accumulate"](*total, *part["work"](*leaves, *broadcast))
        found = part["update"](*state, *part["report"](*total))
        state, result = found[: len(state)], found[len(state) :]
        results.append([np.asarray(leaf) for leaf in result])
    return results, form
