"""Histories and the items that followed."""

import pytest

from tff_tx import datasets
from tff_tx.core.errors import UserError

ROWS = {"u": "a b c a d", "v": "c b", "w": "d", "x": "b c d"}


def load(tmp_path, max_length=3, rows=None, **fields):
    """The users' items in turns, as a log has them."""
    users = {user: items.split() for user, items in (rows or ROWS).items()}
    lines = [(u, items[t]) for t in range(9) for u, items in users.items() if t < len(items)]
    (tmp_path / "x.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u, i in lines))
    spec = datasets.DataSpec(
        "file",
        files=(str(tmp_path / "x.csv"),),
        **{"client_column": "user", "label_column": "item", "cache_dir": str(tmp_path), **fields},
    )
    names = datasets.label_names(spec)
    return datasets.load(spec, datasets.NextItemEncoder(names, max_length), progress=False)


def examples(clients):
    """Client -> its examples, items by name."""
    found = {}
    for client in clients.client_ids:
        rows = clients.create_tf_dataset_for_client(client).as_numpy_iterator()
        found[client] = [tuple("".join(".abcd"[i] for i in row[key]) for key in ("item_ids", "seen")) for row in rows]
    return found


def test_one_is_left_out_for_testing_and_one_for_validation(tmp_path):
    found = load(tmp_path, split="time", validation_fraction=1, test_fraction=1)
    assert found.label_names == ("a", "b", "c", "d")
    assert examples(found.train) == {"u": [("abc", "abc")]}
    assert examples(found.validation) == {"u": [("abca", "abc")], "x": [("bc", "bc")]}
    assert examples(found.test) == {"u": [("bcad", "abcd")], "v": [("cb", "bc")], "x": [("bcd", "bcd")]}


def test_clients_that_are_held_out_are_asked_for_every_item_but_the_first(tmp_path):
    found = load(
        tmp_path, max_length=9, split="client", test_fraction=2, rows={"u": "a b c", "v": "a b c", "w": "a b c"}
    )
    (train,) = found.train.client_ids
    assert examples(found.train)[train] == [("abc", "abc")]
    assert set(map(tuple, examples(found.test).values())) == {(("ab", "ab"), ("abc", "abc"))}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"split": "within_client"}, r"data\.split=within_client takes records from between others"),
        ({"rows": {"u": "a", "v": "b"}, "test_fraction": 0}, "no client has enough records for an example"),
        ({"label_names": ("a", "b"), "test_fraction": 1}, "the label 'c' is not one of the 2 known"),
        ({"label_column": "thing"}, "there is no column 'thing'"),
    ],
)
def test_what_makes_no_history_is_refused(tmp_path, fields, told):
    with pytest.raises(UserError, match=told):
        load(tmp_path, **{"split": "time", **fields})
