"""Records of studies: what is damaged is a sentence."""

import json

import pytest

from tff_tx.core.errors import UserError
from tff_tx.run.tuning.records import Records

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
