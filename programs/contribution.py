"""Ranks the clients of a run by what they contributed: `python -m programs.contribution --run_dir=RUN`.

The run must have stored its updates (`programs.train --keep_updates`). Nothing is trained again: models that the rounds
would have led to without some of their clients are made from the updates and evaluated on held-out data. Prints the
ranking with its uncertainty and what it cost, and writes it as JSON, with a plot.
"""

from __future__ import annotations

import os

import tensorflow_federated as tff
from absl import flags
from tqdm import tqdm

from programs import aggregation_flags, attack_flags, cli, data_flags, model_flags, training_flags  # noqa: F401
from tff_tx import algorithms, datasets, runtime, tasks
from tff_tx.analysis import contribution
from tff_tx.core import files
from tff_tx.core.errors import UserError
from tff_tx.run import directory as run_directory
from tff_tx.run import evaluation, reporting

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "The directory of a run that stored its updates.")
flags.DEFINE_enum(
    "method",
    "gtg_shapley",
    contribution.METHODS,
    "How clients are valued: Shapley values by guided truncated sampling, by plain truncated sampling, or from all "
    "coalitions of a round's clients, 2 to the power of their number; or by leaving out one at a time.",
)
flags.DEFINE_string("metric", "loss", "The utility: a metric of evaluation; of loss and its like, less is better.")
flags.DEFINE_enum("split_name", "test", ["validation", "test"], "Whose data the metric is of.")
flags.DEFINE_integer("eval_clients", 50, "Held-out clients of each evaluation.", lower_bound=1)
flags.DEFINE_integer("eval_batch_size", 32, "Examples a batch in evaluation.", lower_bound=1)
flags.DEFINE_integer("first_round", 1, "The first round that counts.", lower_bound=1)
flags.DEFINE_integer("last_round", None, "The last; default: the last there is.", lower_bound=1)
flags.DEFINE_float(
    "truncation",
    0.0,
    "Once some of a round's clients come as near to what all of them gain as this share of it, the others share the "
    "rest equally.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_float(
    "round_truncation", 0.0, "Rounds that change the metric by no more than this share equally.", lower_bound=0.0
)
flags.DEFINE_float(
    "tolerance", 0.05, "Sampling stops at standard errors of this share of a round's largest value.", lower_bound=0.0
)
flags.DEFINE_integer("max_sweeps", 20, "Sampling stops after so many orders a client.", lower_bound=1)
flags.DEFINE_integer("seed", 1, "Of the run; also decides which orders are sampled.", lower_bound=0)

_OWN = (
    *("run_dir", "method", "metric", "split_name", "eval_clients", "eval_batch_size", "first_round", "last_round"),
    *("truncation", "round_truncation", "tolerance", "max_sweeps", "threads", "cache_dir"),
)
_MOST_PLAYERS = 12


def main(_) -> None:
    """Values the clients and writes the ranking."""
    _check()
    config = run_directory.read_config(FLAGS.run_dir)
    _restore_flags(config["flags"])
    store = contribution.UpdateStore(FLAGS.run_dir)
    rounds = [r for r in store.rounds() if FLAGS.first_round <= r <= (FLAGS.last_round or r)]
    if not rounds:
        raise UserError(
            f"--first_round={FLAGS.first_round} and --last_round={FLAGS.last_round} leave none of the "
            f"{len(store.rounds())} rounds that --run_dir={FLAGS.run_dir} has updates of: choose others."
        )
    if FLAGS.method == "exact":
        _check_players(max(len(store.read(r)[0]) for r in rounds))
    runtime.configure_tensorflow()
    task = _task(config["task"])
    directory = os.path.join(FLAGS.run_dir, "contribution")
    utility = _utility(task)
    files.make_directory(directory, "--run_dir")
    with training_flags.engine(_process(task), FLAGS.run_dir) as engine, tqdm(total=len(rounds), unit="round") as bar:
        table = contribution.value_clients(
            engine,
            store,
            utility,
            FLAGS.method,
            rounds=rounds,
            seed=FLAGS.seed,
            on_round=lambda _: bar.update(),
            **_options(),
        )
    _tell(table, directory, " (decrease)" if _lower_is_better(task) else "")


def _check():
    if FLAGS.run_dir is None:
        raise UserError("--run_dir is not set: name the directory of a run that was trained with --keep_updates.")
    sampled = ("tolerance", "max_sweeps", "truncation", "round_truncation")
    for name in sampled if FLAGS.method in ("exact", "leave_one_out") else ():
        if not FLAGS[name].using_default_value:
            raise UserError(
                f"--{name}={FLAGS[name].value} is about sampling, and --method={FLAGS.method} does not sample: drop it "
                "or change the method."
            )
    if FLAGS.method == "truncated_monte_carlo" and not FLAGS["round_truncation"].using_default_value:
        raise UserError(f"--round_truncation={FLAGS.round_truncation} belongs to --method=gtg_shapley: drop it.")


def _check_players(num_players):
    if num_players > _MOST_PLAYERS:
        raise UserError(
            f"--method=exact would evaluate 2^{num_players} coalitions of a round's {num_players} clients: it is for "
            f"{_MOST_PLAYERS} at most; use gtg_shapley."
        )


def _restore_flags(values):
    """Sets the flags of the run, as far as this program has them."""
    for name, value in values.items():
        if name in FLAGS and name not in _OWN:
            FLAGS[name].value = value


def _task(config):
    stored = {k: tuple(v) if isinstance(v, list) else v for k, v in config["data"].items()}
    data = datasets.DataSpec(**{**stored, "cache_dir": FLAGS.cache_dir or stored["cache_dir"]})
    local, model = training_flags.local_training(), tasks.ModelSpec(**config["model"])
    return tasks.create_task(config["kind"], data, model, local, eval_batch_size=FLAGS.eval_batch_size, seed=FLAGS.seed)


def _process(task):
    """The run's process. What its clients train on does not matter: they have trained."""
    attack = attack_flags.options(attack_flags.attack(task))
    options = training_flags.options(FLAGS.seed, **aggregation_flags.options(FLAGS.seed), **attack)
    return task.process(algorithms.ALGORITHMS[FLAGS.algorithm](task.model, options))


def _utility(task):
    """From weights to the metric, more being better, on the same held-out clients each time."""
    clients = getattr(task, FLAGS.split_name)
    if clients is None:
        raise UserError(f"--split_name={FLAGS.split_name}: the run held out no such data; choose the other.")
    evaluator = evaluation.Evaluator(task.model, task.eval_batches_fn(clients), training_flags.threads())
    sample = tff.simulation.build_uniform_sampling_fn(clients.client_ids, random_seed=FLAGS.seed)
    some = sample(0, min(FLAGS.eval_clients, len(clients.client_ids)))
    names = list(evaluator.metrics(tff.learning.models.ModelWeights(*task.model.initial_weights), some[:1]))
    if FLAGS.metric not in names:
        raise UserError(f"--metric={FLAGS.metric} is none of this task's: {', '.join(names)}.")
    sign = -1.0 if _lower_is_better(task) else 1.0
    return lambda weights: sign * evaluator.metrics(weights, some)[FLAGS.metric]


def _lower_is_better(task):
    return any(metric.name == FLAGS.metric and metric.higher_is_better is False for metric in task.metrics)


def _options():
    if FLAGS.method in ("exact", "leave_one_out"):
        return {}
    options = {"tolerance": FLAGS.tolerance, "max_sweeps": FLAGS.max_sweeps, "truncation": FLAGS.truncation}
    if FLAGS.method == "gtg_shapley":
        options["round_truncation"] = FLAGS.round_truncation
    return options


def _tell(table, directory, direction):
    attrs = table.attrs
    path = os.path.join(directory, f"{FLAGS.method}.json")
    files.write_json(path, {**attrs, "metric": FLAGS.metric, "clients": table.to_dict("index")})
    what = f"contribution to {FLAGS.metric}{direction}"
    plot = reporting.plot_values(table, what, os.path.join(directory, f"{FLAGS.method}.png"))
    print(table.to_string(float_format="%.5f"))
    print(
        f"Sum {table['value'].sum():.5f}; all rounds together gained {attrs['gain']:.5f} ({what}). "
        f"{attrs['evaluations']:,} models evaluated in {attrs['seconds']:.0f} s."
    )
    print(f"Written: {path}, {plot}")


if __name__ == "__main__":
    cli.run(main)
