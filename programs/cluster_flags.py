"""The flags of --engine=ray: which cluster, and what a worker of it takes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Callable

from absl import flags

from programs import canary_flags, data_flags, training_flags  # noqa: F401, their flags are read here
from tff_tx import datasets, runtime
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "ray_address",
    None,
    "The cluster to join, host:port of its head or auto; default: one is started on this machine and ends with the "
    "program.",
)
flags.DEFINE_string(
    "ray_tls_dir",
    None,
    "Directory with ca.crt, node.crt and node.key, see programs.certs: Ray encrypts, and refuses peers without a "
    "certificate of that authority.",
)
flags.DEFINE_list(
    "silos",
    [],
    "Names of the silos that hold the training data: --data are then paths on the node whose Ray resource is silo_ and "
    "the name, with {silo} for the name, and are read there only. --test_data and --validation_data are read here.",
)
flags.DEFINE_integer(
    "ray_cpus_per_worker",
    1,
    "Processors a worker process takes; as many clients run in it at the same time, and share its memory.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "ray_leaves",
    runtime.MOST_LEAVES,
    "Into how many parts a cohort is cut at most, which workers take from each other; a few for each processor of the "
    "cluster. Other numbers round sums otherwise.",
    lower_bound=1,
)
flags.DEFINE_float(
    "ray_client_seconds",
    3600.0,
    "A client that takes longer is started again elsewhere, and left out if it takes too long there too.",
    lower_bound=1.0,
)
flags.DEFINE_float(
    "ray_worker_seconds",
    300.0,
    "How long clients wait for a node that can run them, before they are left out.",
    lower_bound=1.0,
)

MAY_CHANGE_ON_RESUME = (
    "ray_address",
    "ray_tls_dir",
    "ray_cpus_per_worker",
    "ray_client_seconds",
    "ray_worker_seconds",
)


def check() -> None:
    """Refuses flags that mean nothing to the engine.

    Raises:
      UserError: With the first of them.
    """
    if FLAGS.engine == "ray":
        _check_silos()
        return
    for name in (*MAY_CHANGE_ON_RESUME, "ray_leaves", "silos"):
        if not FLAGS[name].using_default_value:
            value = FLAGS[name].value
            told = ",".join(value) if isinstance(value, list) else value
            raise UserError(f"--{name}={told} means nothing to --engine={FLAGS.engine}: drop it, or set --engine=ray.")


def _check_silos() -> None:
    if not FLAGS.silos:
        return
    silos = f"--silos={','.join(FLAGS.silos)}"
    if len(set(FLAGS.silos)) < len(FLAGS.silos):
        raise UserError(f"{silos} names a silo twice: name each once.")
    if FLAGS.ray_address is None:
        raise UserError(f"{silos} needs --ray_address, the cluster that their nodes have joined: name its head.")
    for name in ("validation_fraction", "test_fraction"):
        if not FLAGS[name].using_default_value:
            raise UserError(
                f"--{name}={FLAGS[name].value} would take held-out data from the silos, where nobody else reads them: "
                f"drop it; what is evaluated on is --{name.partition('_')[0]}_data, files of the coordinator."
            )
    if FLAGS.canaries:
        raise UserError(f"--canaries={FLAGS.canaries} are clients of no silo, and {silos} is given: drop one of them.")


def cluster() -> contextlib.AbstractContextManager[runtime.RayCluster | None]:
    """The cluster that the flags name, or a new one; None without --engine=ray."""
    if FLAGS.engine != "ray":
        return contextlib.nullcontext()
    return runtime.RayCluster(
        FLAGS.ray_address,
        cpus=training_flags.threads(),
        threads=FLAGS.ray_cpus_per_worker,
        tls_dir=FLAGS.ray_tls_dir,
    )


def on_silos(cluster: runtime.RayCluster | None) -> Callable[..., Mapping] | None:
    """Calls functions where the data of --silos are, see `RayCluster.on_silos`; None without them."""
    return functools.partial(cluster.on_silos, names=FLAGS.silos) if FLAGS.silos else None


def engine(process, cluster: runtime.RayCluster, costs: Mapping[str, float]) -> runtime.Engine:
    """The engine, for a `LearningProcess`.

    Args:
      process: Of clients named by `tasks.client_arguments`.
      cluster: Of `cluster`.
      costs: What each client costs a round.
    """
    return runtime.RayEngine(
        process,
        precision=FLAGS.mixed_precision,
        cluster=cluster,
        cost_fn=lambda client: costs[client["client_id"].decode()],
        silo_fn=(lambda client: datasets.silo_of(client["client_id"].decode())) if FLAGS.silos else None,
        most_leaves=FLAGS.ray_leaves,
        limits=runtime.Limits(client=FLAGS.ray_client_seconds, worker=FLAGS.ray_worker_seconds),
    )
