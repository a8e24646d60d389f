"""Activations in evaluations: a run's own files are read, and stay as they are."""

import pathlib
import shutil
import types

import pytest

from tff_tx import tasks
from tff_tx.config import RunConfig
from tff_tx.run.assemble import tasks as task_parts

TINY = {"patch_size": 4, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.slow
def test_a_runs_files_are_neither_copied_nor_changed_nor_looked_at_in_vain(cache_dir, tmp_path, monkeypatch):
    settings = {"data.num_clients": 3, "data.cache_dir": str(cache_dir)}
    settings |= {
        "model.architecture": "vit",
        "model.config": TINY,
        "model.trainable": "head",
        "model.cache_features": True,
    }
    config = RunConfig.of({"data.dataset": "digits", "task.kind": "image_classification", **settings})
    task, run = task_parts.load_task(config, progress=False), types.SimpleNamespace(directory=str(tmp_path))
    run.config = config.replace({"model.feature_cache_bytes": 10**8})
    tasks.FeatureCache(task, str(tmp_path / "features"), 10**8, 1).prepare(task.train.client_ids)

    def files():
        return {path: path.read_bytes() for path in (tmp_path / "features").rglob("*") if path.is_file()}

    before, copied = files(), []
    monkeypatch.setattr(shutil, "copy2", lambda *paths: copied.append(paths))
    with task_parts.on_features(run, task, ("train",)) as found:
        assert found is not task
        (path, *_) = (path for path in before if path.suffix == ".sqlite")
        assert pathlib.Path(path).stat().st_nlink == 2
        assert len(list(found.train.create_tf_dataset_for_client(task.train.client_ids[0]))) > 0
    assert files() == before
    assert not copied
    run.config = config.replace({"model.feature_cache_bytes": 1})
    monkeypatch.setattr(shutil, "copytree", lambda *paths, **how: copied.append(paths))
    with task_parts.on_features(run, task, ("train",)) as found:
        assert found is task
    assert not copied
