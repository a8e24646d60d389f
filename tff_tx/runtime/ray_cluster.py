"""Ray's side of the engine `ray`: the cluster that is started or joined, and the workers on its nodes."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Callable

import grpc

from tff_tx.core.errors import UserError, setting

SILO = "silo_"
"""A node of which Ray has a resource of this prefix and a name holds the data of the silo of that name."""

_MARK = "TFF_TX_RAY_SCRATCH"
# Ray's own agents notice a dead driver after a minute, so whoever has inherited the mark is killed. Command lines are
# no mark: a pager or an editor on one of Ray's logs names the directory, too. Others that still write there are on
# their way out.
_SWEEP = f"""
cat >/dev/null
for i in 1 2 3 4 5; do
  for process in /proc/[0-9]*; do
    ! grep -aqsF "{_MARK}=$1" "$process/environ" || kill -9 "${{process#/proc/}}"
  done
  rm -rf "$1"
  [ -e "$1" ] || exit
  sleep 1
done
"""
_LOOPBACK = "127.0.0.1"
# Otherwise the first driver waits until as many workers as processors have started, and for ever for one that did not
# (github.com/ray-project/ray/issues/40131). Ours are actors, with processes of their own.
_NO_FIRST_WORKERS = {"prestart_worker_first_driver": False}
_LONGEST_PLACE = 24  # the name of a socket has 107 characters at most, and Ray takes the rest
_REFRESH_SECONDS = 2.0
_ANSWER_SECONDS = 30.0
_MOST_FAILED_STARTS = 3
_TLS_FILES = {"RAY_TLS_SERVER_CERT": "node.crt", "RAY_TLS_SERVER_KEY": "node.key", "RAY_TLS_CA_CERT": "ca.crt"}


@dataclasses.dataclass(eq=False)
class Member:
    """A worker of the cluster as the coordinator knows it.

    Attributes:
      actor: Ray's handle of a `ray_worker.Worker`.
      node_id: Ray's id of the node that it is on.
      silos: Names of the silos whose data that node holds.
      threads: Leaves it computes at the same time.
      starting: Reference that becomes ready when the worker is; None when it is.
      failed: Whether it is known to be gone.
    """

    actor: Any
    node_id: str
    silos: frozenset[str]
    threads: int
    starting: Any
    failed: bool = False


class RayCluster(contextlib.AbstractContextManager):
    """A Ray cluster with this project's workers on all of its nodes, as many as they have processors.

    A cluster that is started listens on this machine alone. Nodes that join get workers, and a worker that ends is
    replaced as long as its node is there.

    Args:
      address: Of the cluster's head, `host:port`, or "auto" for the one that runs on this machine; None starts one on
        this machine, which ends with this process, however that ends.
      cpus: Processors of the cluster that is started.
      threads: Processors a worker takes; it runs so many clients at the same time.
      tls_dir: Directory with `ca.crt`, `node.crt` and `node.key`, see `programs.certs`; None: no encryption.
      has_workers: Whether to start workers; without, it is for functions that are called on it.

    Raises:
      UserError: If Ray is not installed, the certificates are not there or the cluster cannot be joined.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus: int | None = None,
        threads: int = 1,
        tls_dir: str | None = None,
        has_workers: bool = True,
    ):
        use_tls(tls_dir)
        self._ray = import_ray()
        self._threads, self._scratch = threads, None
        self._connect(address, cpus)
        self.members: list[Member] = []
        self._failed_starts: collections.Counter = collections.Counter()
        self._refreshed = 0.0
        self.start_error = ""
        if has_workers:
            self.refresh(at_once=True)  # workers start while the caller prepares

    def _connect(self, address, cpus):
        options = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        with contextlib.ExitStack() as stack:
            stack.enter_context(_same_sigterm())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # Ray's advice to its own users is not for ours
            if address is not None:
                try:
                    _ask(address)
                    self._ray.init(address=address, **options)
                except (ConnectionError, RuntimeError, ValueError, grpc.RpcError) as error:
                    told = error.details() if isinstance(error, grpc.RpcError) else str(error)
                    reason = told.strip().splitlines()[0]
                    raise UserError(
                        f"{setting('engine.ray_address')}={address}: there is no Ray cluster to join ({reason}); "
                        "start one with `ray start --head`, with the same certificates if any, and the same versions "
                        "of Python and Ray."
                    ) from None
            else:
                self._scratch = _Scratch()
                stack.enter_context(_importable())
                stack.enter_context(_environment(_MARK, self._scratch.path))
                # By any other address Ray listens on all that this machine has, and runs code for whoever connects.
                here = {"_node_ip_address": _LOOPBACK, "_temp_dir": self._scratch.path}
                options |= {**here, "_system_config": _NO_FIRST_WORKERS}
                self._ray.init(num_cpus=cpus or len(os.sched_getaffinity(0)), **options)

    def refresh(self, at_once: bool = False) -> None:
        """Looks, every two seconds at most, which nodes there are, and starts workers where they lack.

        Raises:
          UserError: If workers have been tried everywhere, and start nowhere, or no node is left.
        """
        if not at_once and time.monotonic() < self._refreshed + _REFRESH_SECONDS:
            return
        self._refreshed = time.monotonic()
        nodes = {node["NodeID"]: node["Resources"] for node in self._ray.nodes() if node["Alive"]}
        if not nodes:
            raise UserError(
                f"{setting('engine.name')}=ray: the last node of the cluster has ended (its raylet was killed or ran "
                "out of memory): give the same command again, which goes on from the last checkpoint."
            )
        self.members = [m for m in self.members if not m.failed and m.node_id in nodes]
        there = collections.Counter(m.node_id for m in self.members)
        for node_id, resources in nodes.items():
            if self._failed_starts[node_id] < _MOST_FAILED_STARTS:
                for _ in range(int(resources.get("CPU", 0) // self._threads) - there[node_id]):
                    self.members.append(self._start(node_id, resources))
        able = [node_id for node_id, resources in nodes.items() if resources.get("CPU", 0) >= self._threads]
        if able and not self.members and all(self._failed_starts[n] >= _MOST_FAILED_STARTS for n in able):
            raise UserError(
                f"{setting('engine.name')}=ray: no worker starts on any node of the cluster ({self.start_error}); "
                "install this project and its requirements.txt on all of them, for the same Python."
            )

    def _start(self, node_id, resources) -> Member:
        from tff_tx.runtime import ray_worker

        there = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)
        actor_class = ray_worker.actor_class(self._threads)
        actor = actor_class.options(num_cpus=self._threads, scheduling_strategy=there, max_restarts=0).remote(
            self._threads
        )
        silos = frozenset(name[len(SILO) :] for name in resources if name.startswith(SILO))
        return Member(actor, node_id, silos, self._threads, actor.ready.remote())

    def ready(self) -> list[Member]:
        """The members that can work; finds out which of those that were starting can by now."""
        starting = {m.starting: m for m in self.members if m.starting is not None}
        done, _ = self._ray.wait(list(starting), num_returns=len(starting), timeout=0) if starting else ([], [])
        for ref in done:
            member = starting[ref]
            try:
                self._ray.get(ref)
                member.starting = None
            except self._ray.exceptions.RayError as error:
                self._failed_starts[member.node_id] += 1
                self.start_error = str(error).strip().splitlines()[-1].strip()[:300]
                logging.warning("a worker on node %s does not start: %s", member.node_id, self.start_error)
                self.discard(member)
        return [m for m in self.members if m.starting is None and not m.failed]

    def starting(self) -> list[Any]:
        """References that become ready when further members do."""
        return [m.starting for m in self.members if m.starting is not None and not m.failed]

    def discard(self, member: Member) -> None:
        """Ends a worker that does not do its work any more; another takes its place at the next `refresh`."""
        member.failed = True
        with contextlib.suppress(Exception):  # it may be gone in many ways
            self._ray.kill(member.actor)

    def silos(self) -> frozenset[str]:
        """Names of the silos whose nodes are there."""
        resources = (node["Resources"] for node in self._ray.nodes() if node["Alive"])
        return frozenset(name[len(SILO) :] for names in resources for name in names if name.startswith(SILO))

    def on_silos(
        self, function: Callable[..., Any], *arguments: Any, names: Collection[str] | None = None
    ) -> dict[str, Any]:
        """Calls an importable function, of the silo's name and the arguments, where each silo's data are.

        Of all silos there are, unless `names` says of which. Returns what it returned, by the silo's name.

        Raises:
          UserError: If it raised that, a silo has no node, or its node goes away meanwhile.
        """
        names = self.silos() if names is None else names
        if missing := sorted(set(names) - self.silos()):
            there = ", ".join(sorted(self.silos())) or "none"
            label = SILO + missing[0]
            raise UserError(
                f"{setting('data.silos')}={','.join(names)}: no node of the cluster has the resource {label} (there "
                f"are the silos: {there}); start its node with `ray start --resources='{{\"{label}\": 1}}'`, or "
                "correct the name."
            )
        task = self._ray.remote(num_cpus=0, max_retries=1)(function)
        refs = {name: task.options(resources={SILO + name: 1e-3}).remote(name, *arguments) for name in names}
        try:
            while self._ray.wait([*refs.values()], num_returns=len(refs), timeout=_REFRESH_SECONDS)[1]:
                if gone := refs.keys() - self.silos():
                    raise UserError(
                        f"{setting('data.silos')}: {', '.join(sorted(gone))} went away while the data were read: try "
                        "again."
                    )
            return {name: self._ray.get(ref) for name, ref in sorted(refs.items())}
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause.within() from None
            raise
        except self._ray.exceptions.RayError as error:
            told = str(error).strip().splitlines()[0]
            raise UserError(
                f"{setting('data.silos')}: a process that read a silo's data has ended ({told}): try again."
            ) from None

    def each(self, function: Callable[..., Any], items: Iterable[tuple]) -> None:
        """Calls an importable function of each item's arguments, as many at a time as there are processors for.

        A call that fails is logged, and the others go on.
        """
        task = self._ray.remote(num_cpus=self._threads, max_retries=1, scheduling_strategy="SPREAD")(function)
        for ref in [task.remote(*arguments) for arguments in items]:
            try:
                self._ray.get(ref)
            except self._ray.exceptions.RayError as error:
                told = str(error).strip().splitlines()[-1].strip()[:300]
                logging.warning("%s has failed on the cluster: %s", function.__name__, told)

    def close(self) -> None:
        """Ends the workers, and the cluster if it was started here."""
        for member in self.members:
            self.discard(member)
        with _same_sigterm():
            self._ray.shutdown()
        if self._scratch is not None:
            self._scratch.close()

    def __exit__(self, *unused):
        self.close()


@contextlib.contextmanager
def _same_sigterm() -> Iterator[None]:
    """Has SIGTERM handled as before: Ray's start and Ray's end make it end the program without its checkpoint."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _ask(address: str) -> None:
    """Asks a head whether it is well, as Ray itself takes minutes to give up; an RpcError if it does not answer us."""
    if address == "auto":
        return
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        paths = [os.environ[name] for name in ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_SERVER_CERT")]
        contents = (pathlib.Path(path).read_bytes() for path in paths)
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*contents))
    else:
        channel = grpc.insecure_channel(address)
    with channel:
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=_ANSWER_SECONDS, wait_for_ready=True)


class _Scratch:
    """A temporary directory that is removed when this program ends, however it ends.

    The program holds the write end of a pipe, and its death is the pipe's end of file.
    """

    def __init__(self):
        place = tempfile.gettempdir()
        self.path = tempfile.mkdtemp(prefix="tff_tx_ray", dir=place if len(place) <= _LONGEST_PLACE else "/tmp")
        self._sweeper = subprocess.Popen(
            ["/bin/sh", "-c", _SWEEP, "sweep", self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self):
        self._sweeper.stdin.close()
        self._sweeper.wait()


def import_ray() -> Any:
    """The package `ray`, which must be installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise UserError(
            f"{setting('engine.name')}=ray needs the package ray ({error}); install it with `pip install --no-deps -r "
            "requirements.txt`."
        ) from None
    return ray


def use_tls(directory: str | None) -> None:
    """Makes Ray encrypt all that goes over the network, and talk to those alone whom the authority has certified.

    `directory` has `ca.crt`, `node.crt` and `node.key`; None leaves things as the environment has them.
    """
    if directory is None:
        return
    files = {variable: os.path.join(os.path.abspath(directory), name) for variable, name in _TLS_FILES.items()}
    for path in files.values():
        if not os.access(path, os.R_OK):
            raise UserError(
                f"{setting('engine.ray_tls_dir')}={directory}: {path} cannot be read; write an authority and "
                "certificates with `python -m programs.certs`."
            )
    wanted = {"RAY_USE_TLS": "1", **files}
    if "ray" in sys.modules and any(os.environ.get(name) != value for name, value in wanted.items()):
        raise UserError(
            f"{setting('engine.ray_tls_dir')}={directory}: Ray has been imported already, and decides then whether it "
            "encrypts; set it up before."
        )
    os.environ.update(wanted)


def _importable() -> contextlib.AbstractContextManager:
    """Processes started meanwhile find this package where this one has found it."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return _environment("PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])))


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Processes started meanwhile have this variable."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
