"""How private a run would be, and what that costs, without training.

`python -m programs.privacy --noise_multiplier=1 --population=10000 --clients_per_round=100 --sampling=poisson
--rounds=1000` tells epsilon; with --target_epsilon in place of --noise_multiplier it finds the noise. Flags mean what
they mean to `programs.train`. Prints tables of epsilon over rounds and over noise; with --plot the same as a picture.
"""

from __future__ import annotations

import os

import numpy as np
from absl import flags

from programs import cli, privacy_flags
from tff_tx import privacy
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

MECHANISMS = ("gaussian", "adaptive", "tree", "banded", "local", "example")
SAMPLERS = ("uniform", "poisson", "by_size", "min_separation", "fixed")

flags.DEFINE_enum(
    "dp_mechanism",
    "gaussian",
    MECHANISMS,
    "Noise of its own in every round, with a fixed or an adaptive clip, which are accounted alike; tree aggregation "
    "(DP-FTRL); a banded factorization (BandMF); noise added by every client to its update; or DP-SGD inside clients, "
    "which hides single examples.",
)
flags.DEFINE_integer("rounds", 30, "Rounds in all.", lower_bound=1)
flags.DEFINE_integer("clients_per_round", 5, "Clients in a round's cohort, on average with poisson.", lower_bound=1)
flags.DEFINE_enum("sampling", "uniform", SAMPLERS, "How a round's cohort is drawn.")
flags.DEFINE_integer(
    "min_separation",
    None,
    "A client is asked at most once in so many consecutive rounds, with --sampling=min_separation; default: as many as "
    "the number of clients allows.",
    lower_bound=1,
)
flags.DEFINE_integer("max_participations", None, "Rounds of a client in all, at most, without amplification.")
flags.DEFINE_integer("parameters", None, "Trained weights: tells how far the noise drowns the updates.", lower_bound=1)
flags.DEFINE_integer("num_examples", None, "Examples of a client, with --dp_mechanism=example.", lower_bound=1)
flags.DEFINE_integer("batch_size", 16, "Examples a batch, with --dp_mechanism=example.", lower_bound=1)
flags.DEFINE_integer("local_steps", 1, "Batches a round, with --dp_mechanism=example.", lower_bound=1)
flags.DEFINE_integer("microbatch_size", 1, "Examples clipped together, with --dp_mechanism=example.", lower_bound=1)
flags.DEFINE_string("plot", None, "Where to write a picture (.png, .pdf or .svg); default: nowhere.")

_PLOT_FORMATS = (".png", ".pdf", ".svg")
_OF_EXAMPLES = ("num_examples", "batch_size", "local_steps", "microbatch_size")


def main(_) -> None:
    """Prints the tables and draws the plot."""
    privacy_flags.check()
    _check()
    mechanism = _mechanism()
    delta = _delta(mechanism)
    noise_multiplier = FLAGS.noise_multiplier
    if noise_multiplier is None:
        noise_multiplier = privacy.find_noise_multiplier(
            mechanism, FLAGS.rounds, FLAGS.target_epsilon, delta, FLAGS.accountant
        )
    ledger = privacy.Ledger(mechanism.with_noise(noise_multiplier), delta, FLAGS.accountant)
    print("\n".join([_summary(ledger), *_price(ledger), *_stop(ledger)]))
    by_rounds, by_noise = _by_rounds(ledger), _by_noise(ledger)
    print(f"\n{_table('rounds', by_rounds)}\n\n{_table('noise multiplier', by_noise)}")
    if FLAGS.plot:
        draw(by_rounds, by_noise, f"{ledger.mechanism.name}, delta {delta:.3g}", noise_multiplier, FLAGS.plot)
        print(f"\nPlot: {FLAGS.plot}")


def _check():
    if FLAGS.plot is not None:
        if not FLAGS.plot.endswith(_PLOT_FORMATS):
            raise UserError(f"--plot={FLAGS.plot} must end with {', '.join(_PLOT_FORMATS)}; rename it.")
        directory = os.path.dirname(os.path.abspath(FLAGS.plot))
        if not os.access(directory, os.W_OK):
            raise UserError(f"--plot={FLAGS.plot}: cannot write to {directory}; name another place.")
    belongs = {
        "restart_rounds": ("dp_mechanism", ("tree",)),
        "bands": ("dp_mechanism", ("banded",)),
        "min_separation": ("sampling", ("min_separation",)),
        **{name: ("dp_mechanism", ("example",)) for name in _OF_EXAMPLES},
    }
    for name, (other, values) in belongs.items():
        if not FLAGS[name].using_default_value and FLAGS[other].value not in values:
            raise UserError(
                f"--{name}={FLAGS[name].value} belongs to --{other}={values[0]}, and --{other} is "
                f"{FLAGS[other].value}: drop one of them."
            )
    if FLAGS.population is not None and FLAGS.clients_per_round > FLAGS.population:
        raise UserError(
            f"--clients_per_round={FLAGS.clients_per_round} is more than --population={FLAGS.population}: lower it."
        )


def _delta(mechanism):
    if mechanism.unit == "example":
        return FLAGS.target_delta or privacy.default_delta(FLAGS.num_examples)
    if FLAGS.population is None:
        if FLAGS.target_delta is None:
            raise UserError("--target_delta is not set, and its default depends on --population: set either.")
        return FLAGS.target_delta
    return privacy_flags.delta(FLAGS.population)


def _participation():
    separation = 1
    if FLAGS.sampling == "min_separation":
        separation = FLAGS.min_separation
        if separation is None:
            if FLAGS.population is None:
                raise UserError("--min_separation is not set, and its default depends on --population: set either.")
            separation = max(1, FLAGS.population // FLAGS.clients_per_round)
        elif FLAGS.population is not None and separation * FLAGS.clients_per_round > FLAGS.population:
            raise UserError(
                f"--min_separation={separation} times --clients_per_round={FLAGS.clients_per_round} is more than "
                f"--population={FLAGS.population}: lower one of them."
            )
    return privacy.Participation(separation, FLAGS.max_participations)


def _mechanism() -> privacy.Mechanism:
    """What the flags describe, without its noise."""
    amplification = privacy.amplification(FLAGS.sampling, FLAGS.amplification)
    if FLAGS.dp_mechanism in ("gaussian", "adaptive"):
        if amplification != "none" and FLAGS.max_participations is not None:
            raise UserError(
                f"--max_participations={FLAGS.max_participations} means nothing to --amplification={amplification}, "
                "where any client may be in any round: drop it, or add --amplification=none."
            )
        return privacy.Gaussian(
            1.0, amplification, FLAGS.clients_per_round, FLAGS.population, participation=_participation()
        )
    if FLAGS.amplification not in (None, "none"):
        raise UserError(
            f"--amplification={FLAGS.amplification} belongs to --dp_mechanism=gaussian, and --dp_mechanism is "
            f"{FLAGS.dp_mechanism}: drop one of them."
        )
    if FLAGS.dp_mechanism == "tree":
        return privacy.TreeAggregation(1.0, FLAGS.restart_rounds, _participation())
    if FLAGS.dp_mechanism == "banded":
        participation = _participation()
        matrix = privacy.optimize_banded(FLAGS.rounds, privacy_flags.bands(participation))
        return privacy.MatrixFactorization(1.0, matrix, participation)
    if FLAGS.dp_mechanism == "local":
        return privacy.LocalGaussian(1.0, FLAGS.clients_per_round, _participation())
    if FLAGS.num_examples is None:
        raise UserError("--dp_mechanism=example needs --num_examples: say how many the smallest client has.")
    return privacy.ExampleLevelSgd(
        1.0,
        FLAGS.num_examples,
        FLAGS.batch_size,
        FLAGS.local_steps,
        microbatch_size=FLAGS.microbatch_size,
        participation=_participation(),
    )


def _summary(ledger) -> str:
    mechanism, rounds = ledger.mechanism, FLAGS.rounds
    lines = [
        f"Epsilon {_number(ledger.epsilon(rounds))} at delta {ledger.delta:.3g} after {rounds:,} rounds with noise "
        f"multiplier {mechanism.noise_multiplier:.5g}."
    ]
    concentrated = privacy.rho(mechanism, rounds)
    if concentrated is not None:
        lines.append(f"zCDP: rho {_number(concentrated)}.")
    return "\n".join(
        [
            *lines,
            f"Mechanism: {mechanism.name}.",
            f"Adjacency: {mechanism.adjacency}.",
            f"Sampling: {mechanism.sampling_assumption}.",
            f"Accountant: {ledger.accountant_told}.",
        ]
    )


def _price(ledger) -> list[str]:
    if FLAGS.parameters is None:
        return []
    of_examples = FLAGS.dp_mechanism == "example"
    cohort, what = (FLAGS.batch_size, "batch") if of_examples else (FLAGS.clients_per_round, "cohort")
    price = privacy.price(ledger, FLAGS.rounds, cohort, FLAGS.parameters)
    needed = "no cohort of this population has"
    if price.cohort_needed is not None:
        needed = f"a {what} of {price.cohort_needed:,} has"
    return [
        f"Signal to noise: {price.signal_to_noise:.3g} over the run at best, {price.first_round:.3g} in the first "
        f"round, with {FLAGS.parameters:,} weights and a {what} of {cohort:,}; {needed} 1."
    ]


def _stop(ledger) -> list[str]:
    if FLAGS.stop_at_epsilon is None:
        return []
    rounds = ledger.rounds_until(FLAGS.stop_at_epsilon, FLAGS.rounds)
    return [f"Stops after {rounds:,} of {FLAGS.rounds:,} rounds, at epsilon {_number(ledger.epsilon(rounds))}."]


def _by_rounds(ledger):
    rounds = sorted({int(r) for r in np.geomspace(1, FLAGS.rounds, 10).round()})
    return [(r, ledger.epsilon(r)) for r in rounds]


def _by_noise(ledger):
    """Around the multiplier that was asked for; none without noise."""
    noise = ledger.mechanism.noise_multiplier
    if noise == 0:
        return []
    multipliers = [noise * factor for factor in (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0)]
    mechanism = ledger.mechanism
    return [
        (z, privacy.epsilon(mechanism.with_noise(z), FLAGS.rounds, ledger.delta, ledger.accountant))
        for z in multipliers
    ]


def _table(name, rows) -> str:
    told = [(name, "epsilon"), *((f"{x:,}" if isinstance(x, int) else f"{x:.4g}", _number(e)) for x, e in rows)]
    widths = [max(len(row[column]) for row in told) for column in (0, 1)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in told)


def _number(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"


def draw(by_rounds, by_noise, title: str, noise_multiplier: float, path: str) -> None:
    """Draws epsilon against rounds and against noise."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [
        (f"rounds, with noise multiplier {noise_multiplier:.4g}", by_rounds),
        (f"noise multiplier, after {FLAGS.rounds:,} rounds", by_noise),
    ]
    panels = [(name, [row for row in rows if np.isfinite(row[1])]) for name, rows in panels]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(10, 4))
    for axis, (name, rows) in zip(axes, panels):
        axis.plot([x for x, _ in rows], [e for _, e in rows], marker=".")
        axis.set_xlabel(name)
        axis.set_ylabel("epsilon")
        axis.grid(True, alpha=0.3)
        axis.set_ylim(bottom=0)
    figure.suptitle(title, fontsize="medium")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


if __name__ == "__main__":
    cli.run(main)
