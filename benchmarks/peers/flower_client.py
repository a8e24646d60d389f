"""Flower's client. Apart from the server's file, so that Ray's actors import it and keep what it keeps."""

from __future__ import annotations

import functools

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks import measure
from benchmarks.peers import parts
from benchmarks.workloads import Workload

app = ClientApp()

# Built once an actor and not once a client, as nothing of it outlives a client's turn.
_model = functools.cache(parts.model)
_batches = functools.cache(parts.client_batches)


@app.train()
def train(message: Message, context: Context) -> Message:
    """One epoch over the client's batches, from the weights in the message."""
    torch.set_num_threads(1)  # one processor a client, as the actors are many
    workload = _workload(message)
    network = _model(workload)
    network.load_state_dict(message.content["arrays"].to_torch_state_dict())
    losses = parts.train(network, _batches(workload, int(context.node_config["partition-id"])))
    metrics = MetricRecord({"loss": measure.mean(losses), "num-examples": workload.batches * workload.batch_size})
    content = RecordDict({"arrays": ArrayRecord(network.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


def _workload(message: Message) -> Workload:
    fields = {f: v for f, v in message.content["config"].items() if f != "server-round"}
    return Workload(**fields)
