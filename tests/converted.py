"""Functions of TFF that AutoGraph converts in nearly every program that trains, converted before programs are forked.

What is converted is Python alone: it does not set TensorFlow up, which no process could fork after.
"""

from __future__ import annotations

import functools
import importlib
import types

from tensorflow.python.autograph.core import converter
from tensorflow.python.autograph.impl import api

_LEARNING = "tensorflow_federated.python.learning"
_CALLED = (
    ("loop_builder", "build_training_loop"),
    ("loop_builder", "_dataset_reduce_fn"),
    ("optimizers.adam", "_Adam.initialize"),
    ("templates.apply_optimizer_finalizer", "reject_non_finite_update"),
    ("templates.model_delta_client_work", "_choose_client_weight"),
    ("tensor_utils", "zero_all_if_any_non_finite"),
)
_DECORATED = (
    ("models.functional", "FunctionalModel.finalize_metrics"),
    ("models.functional", "FunctionalModel.initialize_metrics_state"),
    ("models.functional", "FunctionalModel.update_metrics_state"),
    ("templates.apply_optimizer_finalizer", "_build_tff_optimizer_initialize_and_next.<locals>.next_fn"),
    ("templates.model_delta_client_work", "build_functional_model_delta_update.<locals>.client_update_fn"),
)
_outer = []  # conversions are found by the code of what was converted, as long as there is that code


def convert() -> None:
    """Converts them all."""
    for names, requested in ((_CALLED, False), (_DECORATED, True)):
        options = converter.ConversionOptions(recursive=True, user_requested=requested, optional_features=())
        for module, name in names:
            api._convert_actual(_function(f"{_LEARNING}.{module}", name), converter.ProgramContext(options))


def _function(module: str, name: str) -> types.FunctionType:
    """A function, or one with the code of a function in a function."""
    found = importlib.import_module(module)
    outer, *inner = name.split(".<locals>.")
    function = functools.reduce(getattr, outer.split("."), found)
    function = getattr(function, "python_function", function)
    if not inner:
        return function
    _outer.append(function)
    code = next(c for c in function.__code__.co_consts if getattr(c, "co_name", None) == inner[0])
    return types.FunctionType(code, vars(found), inner[0], None, tuple(types.CellType() for _ in code.co_freevars))


convert()
