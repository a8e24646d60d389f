"""What holds for every task, and that nothing outside of its file goes by its name."""

import ast
import dataclasses
import pathlib
import pkgutil

import pytest

from tff_tx import inference, tasks
from tff_tx.config.registries import TASKS
from tff_tx.core.errors import UserError
from tff_tx.models.hugging_face import check_architecture

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CAPABILITIES = {
    "activation_cache",
    "class_probabilities",
    "classes",
    "in_time",
    "one_class",
    "packs",
    "silos",
    "text_pairs",
    "texts",
    "thresholds",
}
NAMED = (
    *("tff_tx/tasks/kinds/", "tff_tx/config/registries.py"),
    *("tff_tx/datasets/", "tff_tx/models/objectives/", "tff_tx/models/__init__.py"),  # encoders, objectives
)
"""Where names of tasks may stand."""


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_whole(name):
    task = TASKS[name]
    assert isinstance(task, tasks.TaskKind)
    assert task.name == name
    assert task is tasks.task_kind(name)
    assert task.title
    assert task.capabilities <= CAPABILITIES
    assert ("one_class" in task.capabilities) == (task.trigger_feature is not None)
    assert issubclass(pkgutil.resolve_name(task.predictor), inference.Predictor)
    lengths = {field.name for field in dataclasses.fields(tasks.ModelSpec)}
    assert lengths.issuperset(task.limited_lengths)
    objective = task.objective(("O", "B-X", "I-X"), tasks.ModelSpec())
    names = [metric.name for metric in (*objective.metrics, *task.score_metrics)]
    assert len(set(names)) == len(names)
    assert bool(task.score_metrics) == bool(task.scored_columns)
    # Without a checkpoint to start from, a model of this package needs its name in errors and documentation.
    assert (task.architecture is not None) == task.auto_class.startswith("tff_tx.models.zoo.")
    if task.architecture is not None:
        check_architecture(task.auto_class, task.architecture)
        assert f"--architecture={task.architecture}" in (ROOT / "docs" / "tasks.md").read_text()
    # Attacks on classes need classes; those on predictions something that a softmax applies to.
    if "classes" in task.capabilities:
        assert task.needs_label_names
    if "class_probabilities" in task.capabilities:
        assert objective.output_spec is None


def test_every_capability_tells_tasks_apart():
    """One that all tasks or none had would be no capability."""
    for name in CAPABILITIES:
        assert 0 < sum(name in task.capabilities for _, task in TASKS.items()) < len(TASKS), name


def test_an_unknown_task_is_rejected_with_the_known_ones():
    with pytest.raises(UserError, match="translation: must be one of sequence_classification, "):
        tasks.task_kind("translation")


@pytest.mark.slow
@pytest.mark.parametrize("top", ["tff_tx", "programs"])
def test_no_other_file_goes_by_a_tasks_name(top):
    for path in (ROOT / top).rglob("*.py"):
        relative, tree = path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())
        compared = [node for parent in ast.walk(tree) if isinstance(parent, ast.Compare) for node in ast.walk(parent)]
        nodes = compared if relative.startswith(NAMED) else ast.walk(tree)
        found = {node.value for node in nodes if isinstance(node, ast.Constant) and node.value in set(TASKS)}
        assert not found, f"{relative} names {', '.join(sorted(found))}"
