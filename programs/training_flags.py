"""The flags of the algorithm, of what a client and the server do, and of the engine."""

from __future__ import annotations

import functools
import os

from absl import flags

from programs import compression_flags, distillation_flags, local_dp_flags
from tff_tx import algorithms, runtime
from tff_tx.core.errors import UserError
from tff_tx.tasks import LocalTraining

FLAGS = flags.FLAGS

flags.DEFINE_integer("rounds", 30, "Rounds in all.", lower_bound=1)
flags.DEFINE_integer("rounds_per_checkpoint", 10, "Rounds between checkpoints.", lower_bound=1)
flags.DEFINE_integer("clients_per_round", 5, "Clients in a round's cohort.", lower_bound=1)
flags.DEFINE_enum("algorithm", "fed_avg", list(algorithms.ALGORITHMS), "The federated algorithm.")
flags.DEFINE_boolean("weighted", True, "Clients count by their number of examples, else equally.")
flags.DEFINE_float("proximal_strength", 0.1, "mu of --algorithm=fed_prox.", lower_bound=0.0)

flags.DEFINE_integer("batch_size", 16, "Examples a batch.", lower_bound=1)
flags.DEFINE_integer(
    "gradient_accumulation_steps",
    1,
    "Parts in which a client computes a batch, one after another, before its optimizer's step; with N it needs the "
    "memory of a batch N times smaller, and learns the same.",
    lower_bound=1,
)
flags.DEFINE_boolean(
    "bucket_by_length",
    False,
    "Makes batches of texts or histories that are about equally long, so that less of what is computed is padding.",
)
flags.DEFINE_integer("local_epochs", 1, "Passes of a client over its data, a round.", lower_bound=1)
flags.DEFINE_integer(
    "local_steps",
    None,
    "Batches a client trains on a round, instead of --local_epochs; default for stdlib: 16.",
    lower_bound=1,
)
flags.DEFINE_integer("max_examples", None, "Examples a client uses a pass, drawn anew each time.", lower_bound=1)
flags.DEFINE_enum("client_optimizer", "adam", algorithms.OPTIMIZERS, "The clients' optimizer.")
flags.DEFINE_float("client_learning_rate", 2e-3, "Its learning rate.", lower_bound=0.0)
flags.DEFINE_float("client_momentum", 0.0, "Its momentum, for sgd.", lower_bound=0.0, upper_bound=1.0)
flags.DEFINE_float("client_weight_decay", 0.01, "Its weight decay, for adamw.", lower_bound=0.0)
flags.DEFINE_float("clip_norm", None, "Clips clients' gradients to this L2 norm.", lower_bound=0.0)
flags.DEFINE_enum(
    "client_schedule",
    None,
    algorithms.SCHEDULES,
    "How the clients' rate follows the round, after the warm-up; default: it stays.",
)
flags.DEFINE_integer("warmup_rounds", 0, "Rounds over which the rates rise.", lower_bound=0)

flags.DEFINE_enum(
    "server_optimizer",
    "sgd",
    algorithms.OPTIMIZERS,
    "The server's optimizer; sgd with rate 1 is FedAvg, adam FedAdam, and so on.",
)
flags.DEFINE_float("server_learning_rate", 1.0, "Its learning rate.", lower_bound=0.0)
flags.DEFINE_float("server_momentum", 0.0, "Its momentum, for sgd.", lower_bound=0.0, upper_bound=1.0)
flags.DEFINE_float("server_epsilon", 1e-3, "Its adaptivity (tau), for adagrad, adam and yogi.", lower_bound=0.0)
flags.DEFINE_enum("server_schedule", None, algorithms.SCHEDULES, "How its rate follows the round.")

flags.DEFINE_enum("engine", "local", list(runtime.ENGINES), "What runs the clients; ray: a cluster.")
flags.DEFINE_integer(
    "threads",
    None,
    "Clients at work at the same time; default: as many as processors. Does not change the numbers.",
    lower_bound=1,
)
flags.DEFINE_enum(
    "mixed_precision",
    "float32",
    runtime.PRECISIONS,
    "In what clients compute matrix products; weights and updates stay float32. Not for --engine=tff_native.",
)


def local_training() -> LocalTraining:
    """How much a client computes a round."""
    return LocalTraining(
        batch_size=FLAGS.batch_size,
        epochs=FLAGS.local_epochs,
        steps=_local_steps(),
        max_examples=FLAGS.max_examples,
        bucket_by_length=FLAGS.bucket_by_length,
    )


def _local_steps() -> int | None:
    """A whole epoch of the largest modules of stdlib would take as long as the rest of the round."""
    if FLAGS.local_steps is None and FLAGS["local_epochs"].using_default_value and FLAGS.dataset == "stdlib":
        return 16
    return FLAGS.local_steps


def threads() -> int:
    """How many clients are at work at the same time."""
    return FLAGS.threads or len(os.sched_getaffinity(0))


def engine(process, run_dir: str) -> runtime.Engine:
    """The engine on this machine, for a `LearningProcess` and the directory of its run.

    That on a cluster is made by `cluster_flags`.
    """
    if FLAGS.engine == "tff_native":
        return runtime.NativeEngine(process, threads())
    return compression_flags.local_engine(process, threads(), FLAGS.mixed_precision, run_dir)


def check() -> None:
    """Refuses combinations of flags that mean nothing.

    Raises:
        UserError: With the first of them.
    """
    if FLAGS.local_steps is not None and not FLAGS["local_epochs"].using_default_value:
        raise UserError(
            f"--local_steps={FLAGS.local_steps} and --local_epochs={FLAGS.local_epochs} both say how "
            "long a client trains: drop one."
        )
    if FLAGS.algorithm != "fed_prox" and not FLAGS["proximal_strength"].using_default_value:
        raise UserError(
            f"--proximal_strength belongs to --algorithm=fed_prox, and --algorithm is "
            f"{FLAGS.algorithm}: drop it or change the algorithm."
        )
    if FLAGS.mixed_precision != "float32" and FLAGS.engine == "tff_native":
        raise UserError(
            f"--mixed_precision={FLAGS.mixed_precision} is not for --engine=tff_native: drop one of them, or use "
            "--engine=local or ray."
        )
    if FLAGS.clip_norm == 0:
        raise UserError("--clip_norm=0 would stop all training: raise it or leave it out.")
    if FLAGS.warmup_rounds >= FLAGS.rounds:
        raise UserError(f"--warmup_rounds={FLAGS.warmup_rounds} is not less than --rounds={FLAGS.rounds}: lower it.")
    _check_accumulation()
    local_dp_flags.check(local_training())
    distillation_flags.check()
    if FLAGS.algorithm == "fed_sgd":
        _refuse_what_fed_sgd_has_not()


def _check_accumulation() -> None:
    told = f"--gradient_accumulation_steps={FLAGS.gradient_accumulation_steps}"
    if FLAGS.gradient_accumulation_steps > 1 and FLAGS.algorithm not in ("fed_avg", "fed_prox"):
        raise UserError(
            f"{told} is for clients of fed_avg or fed_prox, and --algorithm is {FLAGS.algorithm}: change one of them, "
            "or choose a smaller --batch_size."
        )
    if FLAGS.gradient_accumulation_steps > 1 and FLAGS.example_clip is not None:
        raise UserError(
            f"{told} and --example_clip={FLAGS.example_clip}: noise is added to a batch as a whole, and would be to "
            "each of its parts: drop one of them, or choose a smaller --batch_size."
        )


def _refuse_what_fed_sgd_has_not() -> None:
    """FedSGD's clients send a gradient: they have no optimizer, and count by their examples."""
    for name in ("client_optimizer", "client_learning_rate", "client_schedule", "clip_norm", "weighted"):
        if not FLAGS[name].using_default_value:
            raise UserError(
                f"--{name} means nothing to --algorithm=fed_sgd, whose clients send their gradient over all "
                "their examples: drop it; the rate is --server_learning_rate."
            )


def options(seed: int, **more) -> algorithms.Options:
    """The parts of the algorithm.

    Args:
      seed: Decides what compressors draw.
      **more: Fields that other rooms' flags decide.
    """
    client_optimizer = functools.partial(
        algorithms.build_optimizer,
        FLAGS.client_optimizer,
        momentum=FLAGS.client_momentum,
        weight_decay=FLAGS.client_weight_decay,
        clip_norm=FLAGS.clip_norm,
    )
    return algorithms.Options(
        client_optimizer_fn=client_optimizer,
        server_optimizer=_server_optimizer(),
        client_learning_rate=FLAGS.client_learning_rate,
        client_schedule=_schedule(FLAGS.client_schedule, FLAGS.client_learning_rate),
        weighted=FLAGS.weighted,
        distributor_fn=compression_flags.distributor_fn(seed),
        transforms=_transforms(),
        **more,
    )


def _transforms():
    chosen = (
        algorithms.proximal(FLAGS.proximal_strength) if FLAGS.algorithm == "fed_prox" else None,
        distillation_flags.distillation(),
        local_dp_flags.example_privacy(),
        algorithms.accumulate(FLAGS.gradient_accumulation_steps),
        local_dp_flags.local_privacy(),
    )
    return algorithms.chain(*(transform for transform in chosen if transform is not None))


def _server_optimizer():
    optimizer = algorithms.build_optimizer(
        FLAGS.server_optimizer,
        FLAGS.server_learning_rate,
        momentum=FLAGS.server_momentum,
        epsilon=FLAGS.server_epsilon,
    )
    schedule = server_schedule()
    if schedule is None:
        return optimizer
    return algorithms.schedule_learning_rate(optimizer, schedule)


def server_schedule():
    """The server's rate by round, counted from 0; None: it stays."""
    return _schedule(FLAGS.server_schedule, FLAGS.server_learning_rate)


def _schedule(name, peak):
    if name is None and not FLAGS.warmup_rounds:
        return None
    return algorithms.build_schedule(name or "constant", peak, FLAGS.warmup_rounds, FLAGS.rounds)
