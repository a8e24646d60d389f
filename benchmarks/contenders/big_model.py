"""A large language model with adapters: one round on the in-process engine, set up as `programs.train` does."""

from __future__ import annotations

import argparse
import collections
import json
import time

import numpy as np
import tensorflow as tf

from benchmarks import measure
from benchmarks.contenders import parts
from tff_tx import algorithms, models, runtime
from tff_tx.config.task import DTYPES

SIZES = {"gpt2": {}, "tiny": {"n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 300, "n_positions": 64}}
"""GPT-2 small (124 million parameters) as its configuration has it, and one for tests that everything runs."""


def clients(number: int, vocabulary: int, batches: int, batch_size: int, length: int) -> list[tf.data.Dataset]:
    """Random texts, all as long as they may be."""
    result = []
    for client in range(number):
        rng = np.random.default_rng(client)
        ids = rng.integers(0, vocabulary, [batches, batch_size, length + 1], dtype=np.int32)
        x = collections.OrderedDict(
            attention_mask=np.ones_like(ids[..., 1:]),
            input_ids=ids[..., :-1],
            seed=rng.integers(0, 2**60, [batches, 2], dtype=np.int64),
        )
        result.append(tf.data.Dataset.from_tensor_slices((x, ids[..., 1:])))
    return result


def process(flags: argparse.Namespace):
    """FedAvg of the adapters."""
    model = models.from_config("TFAutoModelForCausalLM", "gpt2", SIZES[flags.size])
    functional = models.functional_model(
        model,
        models.language_modeling("causal_lm"),
        parts.texts_spec(),
        trainable=flags.trainable,
        gradient_checkpointing=flags.gradient_checkpointing,
        frozen_dtype=flags.frozen_dtype,
    )
    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("adam", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        client_learning_rate=1e-3,
        transforms=(algorithms.accumulate(flags.gradient_accumulation_steps),),
    )
    return algorithms.build_fed_avg(functional, options)


def main() -> None:
    """Runs the round and prints a line of JSON; bytes of memory before it are those of the model in its places."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="gpt2")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--batches", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--threads", type=int, default=parts.threads())
    parser.add_argument("--trainable", default="lora")
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--frozen_dtype", choices=DTYPES, default="float32")
    flags = parser.parse_args()
    runtime.configure_tensorflow()
    vocabulary = SIZES[flags.size].get("vocab_size", 50257)
    data = clients(flags.clients, vocabulary, flags.batches, flags.batch_size, flags.length)
    with runtime.LocalEngine(process(flags), flags.threads) as engine:
        state = engine.initialize()
        before = measure.memory_bytes()
        started = time.perf_counter()
        output = engine.run_round(state, data)
        seconds = time.perf_counter() - started
        print(
            json.dumps(
                {
                    "peak_memory_bytes": measure.peak_memory_bytes(),
                    "memory_before_the_round_bytes": before,
                    "round_seconds": seconds,
                    "loss": float(output.metrics["client_work"]["train"]["loss"]),
                    "failures": len(output.failures),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
