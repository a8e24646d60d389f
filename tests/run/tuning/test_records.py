"""Records of studies: what is damaged is a sentence."""

import json

import pytest

from tff_tx.config import RunConfig
from tff_tx.config.space import Space
from tff_tx.core.errors import UserError
from tff_tx.run.tuning.records import Records, check_same

BRACKET = {"arms": 1, "rungs": [1, 3], "reduction": 3}
COST = {"seconds": 1.0}
SCORES = {"arm": 0, "rounds": 1, "scores": [0.5, None], "weights": [1.0, 2.0], "cost": COST}


@pytest.mark.parametrize(
    "record",
    [
        1,
        [],
        {},
        {"bracket": BRACKET, "values": []},
        {"bracket": BRACKET, "values": [{"client.no": 1}]},
        {"bracket": BRACKET, "values": [{"client.batch_size": "many"}]},
        {"bracket": {**BRACKET, "arms": "1"}, "values": [{}]},
        {"bracket": {**BRACKET, "reduction": 0}, "values": [{}]},
        {"bracket": {**BRACKET, "rungs": []}, "values": [{}]},
        {"bracket": {**BRACKET, "rungs": [3, 1]}, "values": [{}]},
        SCORES,
        {**SCORES, "rounds": 3, "scores": []},
        {**SCORES, "rounds": 3, "scores": ["a", "b"]},
        {**SCORES, "rounds": 3, "weights": [1.0]},
        {**SCORES, "rounds": 3, "cost": {"parsecs": 1.0}},
    ],
)
def test_a_damaged_line_is_named(record, tmp_path):
    """Two lines before it are whole."""
    lines = [{"bracket": BRACKET, "values": [{}]}, SCORES]
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert Records(str(tmp_path)).evaluations == [(2, 1.0)]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, record]))
    with pytest.raises(UserError, match=r"records\.jsonl, line 3 is damaged"):
        Records(str(tmp_path))


def test_a_study_that_has_not_begun_may_become_another(tmp_path):
    """As after a space whose values do not fit together; one with arms may not."""
    space = Space.of({"client_learning_rate": True})
    for seed in (1, 2):
        check_same(str(tmp_path), RunConfig.of({"run.seed": seed}), space, {})
        assert not Records(str(tmp_path)).brackets
    (tmp_path / "arms").mkdir()
    check_same(str(tmp_path), RunConfig.of({"run.seed": 2}), space, {})
    with pytest.raises(UserError, match="a study of another run.seed"):
        check_same(str(tmp_path), RunConfig.of({"run.seed": 1}), space, {})
    (tmp_path / "study.json").unlink()
    with pytest.raises(UserError, match=r"has no study\.json"):
        check_same(str(tmp_path), RunConfig.of({"run.seed": 2}), space, {})


def test_the_directory_of_a_run_is_none_of_a_study(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="study_dir=.* is the directory of a run: choose another"):
        check_same(str(tmp_path), RunConfig(), Space({}), {})
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
