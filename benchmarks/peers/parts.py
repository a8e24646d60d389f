"""What contenders in PyTorch share: the model and the clients' batches."""

from __future__ import annotations

import torch
import transformers

from benchmarks.workloads import LEARNING_RATE, Workload


def model(workload: Workload) -> torch.nn.Module:
    """Hugging Face's PyTorch model of the configuration that the TensorFlow contenders have, training."""
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(transformers.BertConfig(**workload.bert_config)).train()


def client_tensors(workload: Workload, client: int) -> dict[str, torch.Tensor]:
    """A client's batches one below the other, [batches * batch_size, length], without a seed for dropout."""
    x, y = workload.client_batches(client)
    tensors = {name: torch.from_numpy(x[name]).long().flatten(0, 1) for name in ("attention_mask", "input_ids")}
    return {**tensors, "labels": torch.from_numpy(y).long().flatten()}


def client_batches(workload: Workload, client: int) -> list[dict[str, torch.Tensor]]:
    """A client's batches as arguments of the model."""
    tensors = client_tensors(workload, client)
    size = workload.batch_size
    return [{name: t[i * size : (i + 1) * size] for name, t in tensors.items()} for i in range(workload.batches)]


def train(network: torch.nn.Module, batches: list[dict[str, torch.Tensor]]) -> list[float]:
    """One epoch of SGD; gives the losses."""
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = network(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
