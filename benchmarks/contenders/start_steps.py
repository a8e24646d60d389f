"""The way of `programs.train --dataset=digits` to its first rounds, step by step with the seconds of each."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import sys
import tempfile
import time

from benchmarks import measure

_STEPS: dict[str, float] = {}


@contextlib.contextmanager
def _step(name):
    started = time.perf_counter()
    yield
    _STEPS[name] = _STEPS.get(name, 0.0) + time.perf_counter() - started


def _timed(name, function):
    @functools.wraps(function)
    def timed(*args, **kwargs):
        with _step(name):
            return function(*args, **kwargs)

    return timed


def main() -> None:
    """Goes the way and prints the seconds."""
    measure.parse(__doc__)
    for package in ("tensorflow", "transformers", "tf_keras", "tensorflow_federated", "programs.train"):
        with _step(f"import {package}"):
            importlib.import_module(package)

    from absl import flags

    from programs import data_flags, model_flags, training_flags
    from tff_tx import algorithms, datasets, models, runtime, tasks

    with tempfile.TemporaryDirectory() as directory:
        flags.FLAGS([sys.argv[0], "--dataset=digits", f"--cache_dir={directory}"])
        runtime.configure_tensorflow()
        # What create_task is made of; the rest of it takes no time.
        for module, name, step in (
            (datasets, "label_names", "data"),
            (datasets, "image_shape", "data"),
            (datasets, "load", "data"),
            (models, "from_config", "Keras model"),
            (models, "functional_model", "functional model"),
        ):
            setattr(module, name, _timed(step, getattr(module, name)))
        task = tasks.create_task(
            model_flags.task_kind(),
            data_flags.data_spec(1),
            model_flags.model_spec(),
            training_flags.local_training(),
            progress=False,
        )
        with _step("process"):
            process = task.process(algorithms.build_fed_avg(task.model, training_flags.options(seed=1)))
        with _step("engine"):
            engine = runtime.LocalEngine(process, training_flags.threads())
        with engine:
            with _step("initial state"):
                state = engine.initialize()
            for name in ("first round", "second round"):
                cohort = tasks.client_arguments(task.train.client_ids[:5], 1, 1)
                with _step(name):
                    state = engine.run_round(state, cohort).state
    print(json.dumps({"steps": _STEPS}))


if __name__ == "__main__":
    main()
