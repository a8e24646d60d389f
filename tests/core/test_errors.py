"""Messages of mistakes: names of settings are found whatever stands around them."""

from tff_tx.core import errors
from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.sources import LeftOut
from tff_tx.tasks import labels


def test_a_place_in_front_leaves_settings_settings():
    told = UserError(f"{setting('data.files')}: there is no file 'a.csv'").within("silo west")
    assert str(told) == "silo west: data.files: there is no file 'a.csv'"
    assert told.describe(lambda path: "--data") == "silo west: --data: there is no file 'a.csv'"
    assert str(told.within()) == str(told)


def test_a_process_may_name_settings_otherwise(monkeypatch):
    """Those of notes and of what is skipped, too: only who shows a text knows what settings are called there."""
    told = UserError(f"{setting('data.columns')} names 2")
    monkeypatch.setattr(errors, "_naming", str)
    errors.name_settings(lambda path: f"--{path.partition('.')[2]}")
    skipped = LeftOut()
    skipped.add(told)
    assert [str(told), errors.shown(skipped.first[0])] == ["--columns names 2"] * 2
    note = labels.as_trained(("a", "b"), ("LABEL_0", "LABEL_1"), False, "m").note
    assert note.endswith("set --label_names if it is another")
    errors.name_settings()
    assert [str(told), errors.shown(skipped.first[0])] == ["data.columns names 2"] * 2
