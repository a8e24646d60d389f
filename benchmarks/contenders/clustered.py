"""Rounds on a cluster of this machine, or on the local engine with as many cores: time, bytes, memory of each."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time

from benchmarks import measure
from benchmarks.contenders import raylets, small_task, stored_task
from tff_tx import runtime, tasks

_RECORDED = ("broadcast_bytes", "moved_bytes", "sums", "steals", "workers", "lost_workers")


def main() -> None:
    """Runs the rounds and prints the line."""
    options = measure.parse(__doc__, _more)
    flags = options.flags
    cores = sorted(os.sched_getaffinity(0))[: flags.cores]
    os.sched_setaffinity(0, cores)
    runtime.configure_tensorflow()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        if flags.small:
            task = small_task.create(directory, options.workload.clients)
        else:
            task = stored_task.create(directory, options.workload, flags.exponent)
        costs, process = task.costs(), small_task.process(task)
        if flags.nodes:
            joined = stack.enter_context(raylets.cluster(flags.nodes))
            engine = runtime.RayEngine(
                process,
                cluster=joined,
                cost_fn=lambda client: costs[client["client_id"].decode()],
                most_leaves=flags.leaves,
            )
        else:
            engine = runtime.LocalEngine(process, len(cores))
        stack.enter_context(engine)
        state, done = engine.initialize(), []
        for round_num in range(1, options.warmup + options.rounds + 1):
            state, told = _round(engine, state, task, round_num)
            done.append(told)
        update = engine.traffic().upload_bytes
        memory = {
            "coordinator": measure.peak_bytes(os.getpid()),
            "workers": [measure.peak_bytes(process.pid) for process in raylets.worker_processes()],
        }
        measured = done[options.warmup :]
        examples = sum(task.train.sizes().values())
        line = {
            "workload": "small" if flags.small else options.workload_name,
            "clients": options.workload.clients,
            "examples": examples,
            "nodes": flags.nodes,
            "cores": len(cores),
            "leaves": flags.leaves,
            "exponent": flags.exponent,
            "update_bytes": update,
            "examples_per_second": len(measured) * examples / sum(r["seconds"] for r in measured),
            "rounds": measured,
            "warmup": done[: options.warmup],
            "peak_memory_bytes": memory,
        }
        print(json.dumps(line), flush=True)


def _more(parser):
    parser.add_argument("--small", action="store_true", help="clients with little to compute, not --workload's")
    parser.add_argument("--nodes", type=int, default=0, help="raylets with a core each; 0: the local engine")
    parser.add_argument("--cores", type=int, help="of this machine that may be used; all")
    parser.add_argument("--exponent", type=float, help="of a power law that clients' sizes follow")
    parser.add_argument("--leaves", type=int, default=runtime.MOST_LEAVES, help="parts of a cohort, at most")


def _round(engine, state, task, round_num):
    before, started, computed = _loopback_bytes(), time.perf_counter(), time.process_time()
    cohort = tasks.client_arguments(task.train.client_ids, 1, round_num)
    output = engine.run_round(state, cohort)
    told = {
        "seconds": time.perf_counter() - started,
        "coordinator_seconds": time.process_time() - computed,  # with the local engine the clients', too
        "loopback_bytes": _loopback_bytes() - before,
        "phases": dict(output.seconds),
        "failures": len(output.failures),
        "loss": float(output.metrics["client_work"]["train"]["loss"]),
    }
    if isinstance(engine, runtime.RayEngine):
        told.update({name: getattr(engine.record, name) for name in _RECORDED})
    return output.state, told


def _loopback_bytes():
    """All that has crossed from a process of this machine to another by network: what crosses between nodes, and more.

    Its other users count too, so the machine has to be quiet.
    """
    with open("/proc/net/dev") as file:
        line = next(line for line in file if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0])


if __name__ == "__main__":
    main()
