"""From the interpreter to the second round of workload A, step by step: seconds, and those of the processors.

On a machine that does other work too, the processor's seconds are what can be compared.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import time

from benchmarks import measure

_SECONDS: dict[str, float] = {}
_CPU_SECONDS: dict[str, float] = {}


@contextlib.contextmanager
def _step(name):
    started, cpu = time.perf_counter(), time.process_time()
    yield
    _SECONDS[name] = _SECONDS.get(name, 0.0) + time.perf_counter() - started
    _CPU_SECONDS[name] = _CPU_SECONDS.get(name, 0.0) + time.process_time() - cpu


def _timed(name, function):
    @functools.wraps(function)
    def timed(*args, **kwargs):
        with _step(name):
            return function(*args, **kwargs)

    return timed


def _add_flags(parser):
    parser.add_argument("--forms", required=True, help="directory with the forms of earlier starts")


def main() -> None:
    """Goes the way and prints the seconds."""
    options = measure.parse(__doc__, _add_flags)
    with _step("import programs"):
        importlib.import_module("programs")  # the garbage collector rests during imports
    for package in ("tensorflow", "tensorflow_federated", "transformers", "tf_keras", "benchmarks.contenders.parts"):
        with _step(f"import {package}"):
            importlib.import_module(package)

    from benchmarks.contenders import parts
    from tff_tx import models, runtime
    from tff_tx.runtime import form_store, local

    runtime.configure_tensorflow()
    models.from_config = _timed("Keras model", models.from_config)
    models.functional_model = _timed("functional model", models.functional_model)
    local.ClientWork = _timed("cutting clients' work", local.ClientWork)
    with _step("process"):
        process = parts.process(options.workload)
    clients = list(parts.Clients(options.workload))
    with _step("round's form"):
        form = form_store.compiled(process, options.flags.forms)
    with _step("engine"):
        engine = runtime.LocalEngine(process, parts.threads(), form=form)
    with engine:
        with _step("first state"):
            state = engine.initialize()
        for name in ("one client, compiling", "first round", "second round"):
            with _step(name):
                state = engine.run_round(state, clients[:1] if "one" in name else clients).state
    for figures in (_SECONDS, _CPU_SECONDS):  # the rest of what they are part of
        figures["process"] -= figures["Keras model"] + figures["functional model"]
        figures["engine"] -= figures["cutting clients' work"]
    print(json.dumps({"steps": _SECONDS, "cpu": _CPU_SECONDS}))


if __name__ == "__main__":
    main()
