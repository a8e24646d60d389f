"""The contribution of a run's clients, from the updates that it stored."""

from __future__ import annotations

import dataclasses
import os

import pandas as pd
import tensorflow_federated as tff
from tqdm.auto import tqdm

from tff_tx import runtime
from tff_tx.analysis import contribution
from tff_tx.config import show
from tff_tx.config.tools import ContributionConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import directory, evaluation, reporting
from tff_tx.run.assemble import tasks as task_parts
from tff_tx.run.assemble.assembly import Assembly

_MOST_PLAYERS = 12
"""Clients of a round whose coalitions are all evaluated."""
_OWNERS = {
    **dict.fromkeys(("tolerance", "max_sweeps", "truncation"), ("gtg_shapley", "truncated_monte_carlo")),
    "round_truncation": ("gtg_shapley",),
}
"""By setting, the methods that it has an effect on."""


@dataclasses.dataclass(frozen=True)
class ContributionReport:
    """The ranking of a run's clients.

    Attributes:
      table: A row per client, by value: `value`, `standard_error`, `rounds`.
      subject: What the values measure, such as "contribution to accuracy".
      files: The ranking as JSON, and its plot.
    """

    table: pd.DataFrame
    subject: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        """The ranking, and the cost of finding it."""
        attrs = self.table.attrs
        return (
            f"{self.table.to_string(float_format='%.5f')}\nSum {self.table['value'].sum():.5f}; all rounds together "
            f"gained {attrs['gain']:.5f} ({self.subject}). {attrs['evaluations']:,} models evaluated in "
            f"{attrs['seconds']:.0f} s.\nWritten: {', '.join(self.files)}"
        )


def value_run(run_dir: str, settings: ContributionConfig, progress: bool = True) -> ContributionReport:
    """Values the clients of a run that stored its updates, and writes the ranking into contribution/ of it.

    Nothing is trained: from the stored updates the run's own process makes the models that its rounds would have led to
    without some of their clients, and these are evaluated on held-out data.

    Raises:
      UserError: If the run stored no updates of such rounds, or there is no such metric or split.
    """
    _check(settings)
    config = directory.read_run(run_dir).config.replace(
        {"run.directory": run_dir, "run.eval_batch_size": settings.eval_batch_size, "engine.threads": settings.threads}
    )
    if settings.cache_dir is not None:
        config = config.replace({"data.cache_dir": settings.cache_dir})
    store = contribution.UpdateStore(run_dir)
    rounds = _rounds(store, run_dir, settings)
    assembly = Assembly.build(config, task_parts.load_task(config, progress=progress))
    utility, subject = _utility(assembly.task, settings, config.engine.num_threads, config.run.seed)
    output_dir = os.path.join(run_dir, "contribution")
    files.make_directory(output_dir, setting("contribution.run_dir"))
    # No client is computed: whatever engine and hooks the run had, its updates have passed them.
    engine = runtime.LocalEngine(assembly.process, config.engine.num_threads)
    with engine, tqdm(total=len(rounds), unit="round", disable=not progress) as bar:
        more = {"rounds": rounds, "seed": config.run.seed, "on_round": lambda _: bar.update(), **_options(settings)}
        table = contribution.value_clients(engine, store, utility, settings.method, **more)
    return _write(table, subject, settings, output_dir)


def _check(settings):
    method = f"{setting('contribution.method')}={settings.method}"
    for name, users in _OWNERS.items():
        value = getattr(settings, name)
        if settings.method not in users and value != getattr(ContributionConfig, name):
            raise UserError(
                f"{setting(f'contribution.{name}')}={show(value)} has no effect with {method}: remove it, or use "
                f"{' or '.join(users)}."
            )


def _rounds(store, run_dir, settings):
    stored = store.rounds()
    first, last = settings.first_round, settings.last_round
    rounds = [r for r in stored if first <= r <= (last or r)]
    if not rounds:
        raise UserError(
            f"{setting('contribution.first_round')}={first} and {setting('contribution.last_round')}={last} leave none "
            f"of the {len(stored)} rounds that {run_dir} has updates of: choose others."
        )
    if settings.method == "exact" and (players := max(len(store.read(r)[0]) for r in rounds)) > _MOST_PLAYERS:
        raise UserError(
            f"{setting('contribution.method')}=exact would evaluate 2^{players} coalitions of a round's {players} "
            f"clients: it is for {_MOST_PLAYERS} at most; use gtg_shapley."
        )
    return rounds


def _options(settings):
    return {name: getattr(settings, name) for name, users in _OWNERS.items() if settings.method in users}


def _utility(task, settings, threads, seed):
    """A metric on the same held-out clients each time, signed so that more is better; and what it is."""
    clients, name = getattr(task, settings.split_name), settings.metric
    if clients is None:
        raise UserError(
            f"{setting('contribution.split_name')}={settings.split_name}: the run held no such data out; choose the "
            "other split."
        )
    evaluator = evaluation.Evaluator(task.model, task.eval_batches_fn(clients), threads)
    sample = tff.simulation.build_uniform_sampling_fn(clients.client_ids, random_seed=seed % 2**32)
    some = sample(0, min(settings.eval_clients, len(clients.client_ids)))
    known = task.metrics_that_rank()
    if name not in known:
        raise UserError(f"{setting('contribution.metric')}={name}: must be one of {', '.join(known)}.")
    lower = not known[name].higher_is_better
    sign = -1.0 if lower else 1.0
    subject = f"contribution to {name}" + (" (decrease)" if lower else "")
    return lambda weights: sign * evaluator.metrics(weights, some)[name], subject


def _write(table, subject, settings, output_dir):
    path, plot = (os.path.join(output_dir, f"{settings.method}.{ending}") for ending in ("json", "png"))
    files.write_json(path, {**table.attrs, "metric": settings.metric, "clients": table.to_dict("index")})
    reporting.plot_values(table, subject, plot)
    return ContributionReport(table, subject, (path, plot))
