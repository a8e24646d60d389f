"""Files of JSON that a run goes on with: whatever else they hold is a sentence, or they are made anew."""

import pytest

from tff_tx.analysis.auditing import canaries
from tff_tx.config import RunConfig
from tff_tx.config.space import Space
from tff_tx.core.errors import UserError
from tff_tx.datasets import survey_pass
from tff_tx.federation.alignment import State
from tff_tx.federation.noised import Noised
from tff_tx.models import peft_start
from tff_tx.run import directory
from tff_tx.run.tuning.records import Records, check_same

NO_OBJECTS = ["", "[]", "3", "null", '"x"', "[" * 100_000, "\x00", '{"a": ']
READERS = {
    "counts.json": lambda d: Noised(None, f"{d}/counts.json", 1),
    "records.jsonl": lambda d: Records(str(d)),
    "adapter_config.json": lambda d: peft_start.adapter_config(str(d)),
    "config.json": lambda d: directory.read_run(str(d)),
    "study.json": lambda d: (d / "arms").mkdir() or check_same(str(d), RunConfig(), Space({}), {}),
    "canaries.json": lambda d: canaries.read_canaries(str(d)),
}
"""Of files that nothing can replace, by name."""


@pytest.mark.parametrize("content", NO_OBJECTS, ids=range(len(NO_OBJECTS)))
@pytest.mark.parametrize("name", READERS)
def test_what_cannot_be_made_again_is_a_sentence(name, content, tmp_path):
    (tmp_path / name).write_text(content + "\n\n")
    with pytest.raises(UserError, match=f"{name}.* is damaged .*: restore it") as error:
        READERS[name](tmp_path)
    assert str(error.value).count("damaged") == 1


@pytest.mark.parametrize("content", NO_OBJECTS, ids=range(len(NO_OBJECTS)))
def test_what_can_be_made_again_is(content, tmp_path):
    (tmp_path / "state.json").write_text(content)
    secret, found = State(str(tmp_path)).begin("x")
    assert (len(secret), found) == (64, {})
    (tmp_path / "survey.npz").write_text(content)
    assert survey_pass._read(str(tmp_path / "survey.npz")) is None
