"""Flower's simulation engine: its FedAvg over Ray's actors, one processor each, all at work side by side."""

from __future__ import annotations

import dataclasses
import logging

from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks import measure
from benchmarks.peers import flower_client, parts


class TimedFedAvg(FedAvg):
    """Ends a lap of the watch with every round."""

    watch: measure.Stopwatch

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        if metrics is None:
            raise RuntimeError("No client of the round replied with a model.")
        self.watch.lap(measure.Round(metrics["loss"]))
        return arrays, metrics


def main() -> None:
    """Runs the rounds and reports them."""
    options = measure.parse(__doc__)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    server = ServerApp()

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        del context
        strategy = TimedFedAvg(fraction_train=1.0, fraction_evaluate=0.0)
        strategy.watch = measure.Stopwatch("flower", options)
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(parts.model(options.workload).state_dict()),
            num_rounds=strategy.watch.total_rounds,
            train_config=ConfigRecord(dataclasses.asdict(options.workload)),
        )
        strategy.watch.report()

    run_simulation(
        server_app=server,
        client_app=flower_client.app,
        num_supernodes=options.workload.clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


if __name__ == "__main__":
    main()
