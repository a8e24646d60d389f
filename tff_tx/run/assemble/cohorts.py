"""Client sampling, simulated devices and the rounds of a configuration."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from tff_tx import cohorts, runtime, tasks
from tff_tx.cohorts import buffered, devices
from tff_tx.config import RunConfig
from tff_tx.config.run_config import describe
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run.checkpoints import last_round
from tff_tx.run.directory import CHECKPOINTS

_KEY = "sampling_key"


def build_devices(config: RunConfig) -> cohorts.Devices:
    """The simulated devices."""
    return cohorts.Devices(
        **dataclasses.asdict(config.devices), over_selection=config.cohort.over_selection, seed=config.run.seed
    )


def num_sampled(config: RunConfig) -> int | None:
    """Number of available clients that a round selects; None: all that were drawn, as with poisson and fixed."""
    if config.cohort.sampling in ("poisson", "fixed"):
        return None
    return build_devices(config).num_selected(config.cohort.clients_per_round)


def largest_cohort(config: RunConfig) -> int:
    """Number of clients that memory and disk space must suffice for; hardly any cohort of random size is larger."""
    return num_sampled(config) or 2 * config.cohort.clients_per_round


def stored_model_bytes(config: RunConfig, trainable_bytes: int) -> int:
    """Bytes of the past models in a checkpoint, which FedBuff stores."""
    return config.cohort.max_staleness * trainable_bytes if config.cohort.is_buffered else 0


def min_separation(config: RunConfig, num_clients: int) -> int:
    """Minimum number of rounds from one participation of a client to the next; 1 with other samplers."""
    if config.cohort.sampling != "min_separation":
        return 1
    return config.cohort.min_separation or max(1, num_clients // num_sampled(config))


def sampling_seed(config: RunConfig) -> int | str:
    """The seed of cohorts: of a private run a secret key beside the noise's, made when there is none yet.

    Amplification by sampling holds against those who do not know the cohorts, and everybody may know `run.seed`.

    Raises:
      UserError: If rounds have been run and their key is not there.
    """
    if not config.privacy.enabled:
        return config.run.seed
    if config.privacy.sampling_seed is not None:
        return config.privacy.sampling_seed
    directory = os.path.join(config.run.directory, CHECKPOINTS)
    path = os.path.join(directory, _KEY)
    if not os.path.exists(path) and last_round(directory) == 0:
        files.make_private(directory)
        files.write_text(path, secrets.token_hex(16), setting("run.directory"))
    try:
        with open(path, encoding="utf-8") as file:
            key = file.read()
    except (OSError, ValueError):
        key = ""
    if re.fullmatch("[0-9a-f]{32}", key) is None:
        raise UserError(
            f"{path}, the key that this run's cohorts are drawn with, is missing or damaged, and other cohorts would "
            f"not keep the guarantee: restore it, or start anew in another {setting('run.directory')}."
        )
    return key


def build_sampler(
    config: RunConfig,
    client_ids: Sequence[str],
    sizes: Mapping[str, int],
    seed: int | str = 0,
    seconds: Mapping[str, float] | None = None,
) -> cohorts.Sampler:
    """The sampler of clients that a round may select, or that FedBuff may start next.

    Args:
      config: The run.
      client_ids: Training clients.
      sizes: Number of examples by client id.
      seed: As of `sampling_seed`.
      seconds: Simulated duration of a client's round, by id.

    Returns:
      From (round_num, attempt=0) to distinct client ids; of FedBuff, from the number of a drawing.

    Raises:
      UserError: If there are too few clients, or the cohorts to replay cannot be.
    """
    by_size = config.cohort.sampling == "by_size" or config.cohort.is_adaptive
    drawable = sum(sizes[c] > 0 for c in client_ids) if by_size else len(client_ids)
    drawn, separation = config.cohort.clients_per_round, 1
    if config.cohort.is_buffered and config.cohort.sampling != "fixed":
        drawn = _candidates_to_start(config, drawable)
    elif num_sampled(config) is not None:
        separation = min_separation(config, len(client_ids))
        drawn = _candidates(config, drawable, separation)
    feedback = cohorts.Feedback(config.run.directory) if config.cohort.is_adaptive else None
    known = cohorts.Known(feedback, sizes, seconds or {}, config.cohort.fairness_floor)
    more = {"path": config.cohort.cohorts, "rounds": config.run.rounds, "separation": separation, "known": known}
    return cohorts.build_sampler(config.cohort.sampling, client_ids, drawn, seed, sizes=sizes, **more)


def _candidates(config, drawable, separation):
    """Number of clients to draw for a synchronous round."""
    selected = num_sampled(config)
    if selected > drawable:
        found, remedy = "is", "it"
        if config.cohort.over_selection > 1:
            found = f"times {describe(config, 'cohort.over_selection')} is {selected} clients per round,"
            remedy = "one of them"
        raise UserError(
            f"{describe(config, 'cohort.clients_per_round')} {found} more than the {drawable} training clients with "
            f"examples: lower {remedy}, or raise {setting('data.num_clients')}."
        )
    if config.cohort.sampling == "min_separation":
        drawable = max(selected, drawable // separation)
    return min(build_devices(config).candidates(config.cohort.clients_per_round), drawable)


def _candidates_to_start(config, drawable):
    """Number of clients to draw so that one of them is idle."""
    cohort = config.cohort
    name = "clients_per_round" if cohort.concurrency is None else "concurrency"
    for path in (f"cohort.{name}", "cohort.buffer_size"):
        if config.get(path) > drawable:
            raise UserError(
                f"{describe(config, path)} is more than the {drawable} training clients with examples: lower it, or "
                f"raise {setting('data.num_clients')}."
            )
    if config.engine.name == "federation":  # whom participants that are free have, nobody knows before
        return drawable
    # Some of those drawn are at work or in the buffer already.
    return min(build_devices(config).candidates(cohort.num_concurrent + cohort.buffer_size - 1), drawable)


def build_cohort_fn(
    config: RunConfig,
    task: tasks.FederatedTask,
    traffic: runtime.Traffic,
    schedule: buffered.HasBuffers | None = None,
) -> Callable[[int, int, float], cohorts.Cohort]:
    """The rounds of a run, synchronous or FedBuff's.

    Args:
      config: The run.
      task: Its clients.
      traffic: Of a client.
      schedule: Of FedBuff with real participants; None: it is simulated, or replayed.

    Returns:
      From (round counted from 1, attempt, simulated seconds at its start) to the cohort, whose arguments are those of
      `tasks.client_arguments`; with FedBuff, pairs of these and the staleness.

    Raises:
      UserError: As of `build_sampler`.
    """
    sizes = task.train.sizes()
    devices_of_run, num_bytes = build_devices(config), traffic.download_bytes + traffic.upload_bytes
    examples = {c: task.local.num_examples(n) for c, n in sizes.items()}
    seconds = {}
    if config.devices.takes_time and config.cohort.is_adaptive:
        seconds = {c: devices_of_run.duration(c, n, num_bytes) for c, n in examples.items()}
    sample = build_sampler(config, task.train.client_ids, sizes, sampling_seed(config), seconds)
    shared: dict[str, Any] = {
        "devices": devices_of_run,
        "num_examples": examples,
        "bytes_per_client": num_bytes,
    }

    def arguments(client_ids, round_num):
        return tasks.client_arguments(client_ids, config.run.seed, round_num)

    if config.cohort.is_buffered:
        own = {name: getattr(config.cohort, name) for name in ("buffer_size", "max_staleness")}
        if schedule is None and config.cohort.sampling == "fixed":
            schedule = buffered.RecordedSchedule(config.cohort.cohorts, config.cohort.max_staleness)
        elif schedule is None:
            schedule = cohorts.AsyncSchedule(sample, concurrency=config.cohort.num_concurrent, **own, **shared)
        return buffered.build_cohort_fn(schedule, arguments)
    goal, limit = config.cohort.clients_per_round, num_sampled(config)
    return devices.build_cohort_fn(sample, arguments, goal=goal, limit=limit, **shared)
