"""Private set intersection: it is the plain one, and what passes shows no identifier that is not common."""

import csv
import json
import threading

import numpy as np
import pandas as pd
import portpicker
import pytest

from tests.federation import parties
from tests.processes import run, start
from tff_tx.config import RunConfig
from tff_tx.config.vertical import AlignConfig
from tff_tx.core.errors import UserError
from tff_tx.federation.alignment import (
    EllipticCurve,
    Identifiers,
    KeyedHash,
    Member,
    RowOrder,
    intersect,
    normalized,
)
from tff_tx.federation.alignment.member import VERSION
from tff_tx.federation.alignment.tables import align_tables

KEY = b"a secret of sixteen bytes"
OPENING = {"version": VERSION, "match": "ecdh"}


def identifiers(names, hash_fn, rule="text"):
    return Identifiers(((f"line {n}", [name]) for n, name in enumerate(names, 2)), hash_fn, rule)


def intersected(tables, make_masks):
    """The parties of an intersection, and what each was sent: (party, phase, what was said, data)."""
    members, sent = {}, []
    for name, table in tables.items():
        masks = make_masks()
        members[name] = Member(name, identifiers(table, masks.hash).points, masks)

    def ask(name, phase, said, data):
        sent.append((name, phase, said, data))
        answer = members[name].answer(phase, said, data)
        sent.append((f"from {name}", phase, said, answer[1]))
        return answer

    intersect(ask, list(tables), members[next(iter(tables))]._masks.name)
    return members, sent


def tables(number, rng):
    """Overlapping tables, the common identifiers written in several ways."""
    ways = (str.upper, str.title, lambda name: f"  {name}\u00a0", str)
    everyone = [f"person {n}" for n in range(60)]
    return {f"party{p}": [ways[p % 4](everyone[n]) for n in rng.permutation(60)[: 40 + p]] for p in range(number)}


@pytest.mark.parametrize("number", [2, 3, 4])
@pytest.mark.parametrize("make_masks", [lambda: EllipticCurve(1), lambda: KeyedHash(KEY)], ids=["ecdh", "keyed"])
def test_it_is_the_plain_intersection_in_one_order(number, make_masks, rng):
    found = tables(number, rng)
    members, _ = intersected(found, make_masks)
    plain = [{normalized([name], "text") for name in table} for table in found.values()]
    rows = [[normalized([table[row]], "text") for row in members[party].order.rows] for party, table in found.items()]
    assert set(rows[0]) == set.intersection(*plain)
    assert all(other == rows[0] for other in rows)
    assert len({member.order.alignment for member in members.values()}) == 1


def linked(received, hashes, own_mask):
    """Identifiers of a dictionary that a party finds in what it received: as they are, or masked by its secret."""
    seen = {point.tobytes() for data in received for point in np.frombuffer(data, np.uint8).reshape(-1, 32)}
    return {
        name
        for name, point in hashes.items()
        if point in seen or own_mask(np.frombuffer(point, np.uint8).reshape(1, 32)).tobytes() in seen
    }


def transcript(make_masks):
    """What each of two parties can find in all that passed, with its own secret and a dictionary of all people."""
    table = {"bank": ["ann", "bob", "eve"], "shop": ["bob", "cid", "dan"]}
    members, sent = intersected(table, make_masks)
    points = [data for _, phase, _, data in sent if phase in ("put", "take") and data]
    found = {}
    for name, other in (("bank", "shop"), ("shop", "bank")):
        masks = members[name]._masks
        dictionary = {person: masks.hash(normalized([person], "text")) for person in table[other]}
        found[name] = linked(points, dictionary, masks.mask)
    return found


def test_nobody_finds_an_identifier_that_is_not_common_in_what_passes():
    assert transcript(lambda: EllipticCurve(1)) == {"bank": {"bob"}, "shop": {"bob"}}


def test_who_has_the_key_of_keyed_hashes_finds_all():
    assert transcript(lambda: KeyedHash(KEY)) == {"bank": {"bob", "cid", "dan"}, "shop": {"ann", "bob", "eve"}}


def test_the_coordinator_learns_of_its_rows_no_more_than_which_are_common_to_all():
    """Its set comes back shuffled by the others, so that what it shares with one of them alone cannot be linked."""
    table = {"a": [f"x{n}" for n in range(30)], "b": [f"x{n}" for n in range(20)], "c": [f"x{n}" for n in range(10)]}
    members, sent = intersected(table, lambda: EllipticCurve(1))
    back = [np.frombuffer(data, "<u4") for who, phase, said, data in sent if who == "a" and phase == "positions"]
    assert sorted(len(positions) for positions in back) == [10, 10, 10]
    places = [members[name]._places["a"] for name in "bc"]
    assert all(not np.array_equal(p, np.arange(30)) for p in places)


@pytest.mark.parametrize(
    ("names", "rule", "error"),
    [
        (["Ann", "bob", "ANN "], "text", "1 rows have the identifier of another, once normalized .line 4 is line 2"),
        (["06-12", "0612"], "digits", "line 3 is line 2 again"),
        (["ann", " "], "text", "line 3: the identifier ' ' is empty; fill it in or remove the row"),
        ([], "text", "the table is empty"),
    ],
)
def test_identifiers_that_do_not_identify_are_refused_with_their_lines(names, rule, error):
    with pytest.raises(UserError, match=error):
        identifiers(names, KeyedHash(KEY).hash, rule)


def test_numbers_are_the_same_identifiers_in_all_formats_and_what_is_missing_is_none(tmp_path):
    """A column that lacks a value has its whole numbers as floats: 7.0 is 7, and not 70 once its point is dropped."""
    whole, floats = pd.DataFrame({"id": [7, 8, 70]}), pd.DataFrame({"id": [7.0, 8.0, 9.0]})
    whole.to_parquet(tmp_path / "a.parquet")
    floats.to_parquet(tmp_path / "b.parquet")
    floats.to_csv(tmp_path / "c.csv", index=False)
    (tmp_path / "d.jsonl").write_text('{"id": 8}\n{"id": "7"}\n{"id": 70.5}\n')
    paths = [str(tmp_path / name) for name in ("a.parquet", "b.parquet", "c.csv", "d.jsonl")]
    for rule in ("text", "digits"):
        own = AlignConfig(
            ids=tuple(paths), id_columns=("id",), output_dir=str(tmp_path / rule), normalize=rule, threads=1
        )
        found = align_tables(RunConfig(), own)
        assert {name: sorted(order.rows) for name, order in found.items()} == dict.fromkeys("abcd", [0, 1])
    pd.DataFrame({"id": ["ann", None]}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "d.jsonl").write_text('{"id": "ann"}\n{"id": null}\n')
    for path in (paths[0], paths[3]):
        both = (path, write(tmp_path / "other.csv", "id", ["ann"]))
        with pytest.raises(UserError, match="(row|line) 2: the identifier '' is empty; fill it in or remove the row"):
            align_tables(RunConfig(), AlignConfig(ids=both, id_columns=("id",), output_dir=str(tmp_path / "out")))
    (tmp_path / "d.jsonl").write_text('{"id": ["ann"]}\n')
    with pytest.raises(UserError, match=r"line 1: id has \['ann'\], which is no identifier"):
        align_tables(RunConfig(), AlignConfig(ids=(paths[3], both[1]), id_columns=("id",), output_dir=str(tmp_path)))


def test_identifiers_of_several_columns_are_not_run_together():
    assert normalized(["ab", "c"], "text") != normalized(["a", "bc"], "text")
    assert normalized(["Straße", "１２"], "text") == normalized(["STRASSE ", "12"], "text")
    assert normalized(["A b"], "exact") != normalized(["a b"], "exact")


@pytest.mark.parametrize(
    ("phase", "said", "data", "error"),
    [
        ("put", {"owner": "b", "start": 0}, bytes(32), "no point of the group"),
        ("put", {"owner": "b", "start": 0}, b"\x01" + bytes(31), "no point of the group"),
        ("put", {"owner": "b", "start": 0}, bytes(5), "what are no points"),
        ("put", {"owner": "b", "start": "0"}, b"", "a message came whose start is no number"),
        ("put", {"owner": "b", "start": 1}, b"", "a part of the set of b came that is not the next"),
        ("put", {"owner": "a", "start": 2}, b"", "a set passes once, in order"),
        ("size", {**OPENING, "identifier": "new"}, b"", "takes part in another intersection already"),
        ("take", {"owner": "b", "start": 0, "count": 1}, b"", "no set of b here yet"),
        ("size", {"version": 0, "match": "ecdh"}, b"", f"is of version 0, this one's of {VERSION}: use the same"),
        ("size", {"version": VERSION, "match": "keyed"}, b"", "matches by keyed, this one by ecdh"),
        ("positions", {"owner": "a"}, np.array([0, 0], "<u4").tobytes(), "or for one twice"),
        ("positions", {"owner": "a"}, np.array([7], "<u4").tobytes(), "positions that a set does not have"),
        ("order", {"alignment": ""}, b"", "not known yet"),
    ],
)
def test_a_message_that_is_none_is_rejected(phase, said, data, error):
    masks = EllipticCurve(1)
    member = Member("a", identifiers(["ann", "bob"], masks.hash).points, masks)
    member.answer("size", OPENING)
    member.answer("put", {"owner": "a", "start": 0, "count": 2})
    member.answer("take", {"owner": "a", "start": 0, "count": 2})
    with pytest.raises(UserError, match=error):
        member.answer(phase, said, data)


@pytest.mark.parametrize("phase", ["put", "take", "positions", "order"])
def test_a_party_that_was_started_anew_says_so(phase):
    """It was killed, and gets the message that the one before it did not answer: its secret is not in use yet."""
    masks = EllipticCurve(1)
    member = Member("a", identifiers(["ann"], masks.hash).points, masks)
    with pytest.raises(UserError, match="it was started anew in the middle of the intersection: give all other comm"):
        member.answer(phase, {"owner": "a", "start": 0, "count": 1})


def test_a_list_of_guesses_is_rejected():
    masks = KeyedHash(KEY)
    member = Member("a", identifiers(["ann"], masks.hash).points, masks, most_identifiers=3)
    member.answer("size", {**OPENING, "match": "keyed"})
    guesses = identifiers([f"guess {n}" for n in range(4)], masks.hash).points
    with pytest.raises(UserError, match="those of b the others have 4 or more identifiers, above the limit of 3: they"):
        member.answer("put", {"owner": "b", "start": 0}, guesses.tobytes())
    # In pieces under several names, complete or not.
    member.answer("put", {"owner": "a", "start": 0, "count": 1})
    member.answer("put", {"owner": "b", "start": 0}, guesses[:2].tobytes())
    member.answer("take", {"owner": "b", "start": 0, "count": 2})
    member.answer("put", {"owner": "c", "start": 0}, guesses[2:3].tobytes())
    for owner, begin in (("c", 1), ("d", 0)):
        with pytest.raises(UserError, match="the others have 4 or more identifiers"):
            member.answer("put", {"owner": owner, "start": begin}, guesses[3:].tobytes())


def test_nothing_in_common_is_said():
    with pytest.raises(UserError, match="no identifier in common: check that all name the same column"):
        intersected({"a": ["ann"], "b": ["bob"]}, lambda: KeyedHash(KEY))


def test_an_order_of_another_version_is_rejected(tmp_path):
    path = tmp_path / "order.json"
    RowOrder("x", (2, 1), "digest").save(str(path))
    assert RowOrder.load(str(path)) == RowOrder("x", (2, 1), "digest")
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(UserError, match="no order of rows .it is of version 2"):
        RowOrder.load(str(path))


def write(path, column, names):
    path.write_text(f"{column},x\n" + "".join(f"{name},{n}\n" for n, name in enumerate(names)))
    return str(path)


def ordered(path, directory, column="id"):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    order = json.loads((directory / f"{path.stem}.json").read_text())["rows"]
    return [rows[row][column].lower() for row in order]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, "align.id_columns is missing"),
        ({"id_columns": ("id",)}, "align.ids must name two or more tables"),
        ({"id_columns": ("id",), "match": "keyed"}, "align.key_file is missing"),
        ({"id_columns": ("nr",), "ids": ("a.csv", "b.csv")}, "a.csv, line 2: there is no column 'nr'"),
        ({"id_columns": ("id",), "ids": ("a.csv", "b.csv", "a.csv")}, "two tables are called a"),
        ({"id_columns": ("id",), "ids": ("a.csv",), "address": "localhost:0"}, "align.certificate is missing"),
        ({"id_columns": ("id",), "address": "localhost:0", "coordinator": "localhost:1"}, "exclude each other"),
    ],
)
def test_wrong_settings_are_a_sentence(settings, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        write(tmp_path / f"{name}.csv", "id", ["ann"])
    with pytest.raises(UserError, match=error):
        align_tables(RunConfig(), AlignConfig(**settings))


def test_notebooks_align_as_the_program_does(tmp_path):
    import tff_tx

    paths = [write(tmp_path / f"{name}.csv", "id", ids) for name, ids in (("a", ["Ann", "bob"]), ("b", ["cid", "ANN"]))]
    found = tff_tx.federation.align(paths, ["id"], output_dir=str(tmp_path / "out"), threads=1)
    assert {name: order.rows for name, order in found.items()} == {"a": (0,), "b": (1,)}
    assert found["a"] == RowOrder.load(str(tmp_path / "out" / "a.json"))
    assert "align" in dir(tff_tx.federation)
    with pytest.raises(UserError, match="align.ids must name two or more tables"):
        tff_tx.federation.align(paths[0], "id", output_dir=str(tmp_path / "out"))
    with pytest.raises(UserError, match="normalise is no setting of ids, id_columns, normalize"):
        tff_tx.federation.align(paths, ["id"], normalise="digits")


def test_parties_with_other_rules_are_told_before_anything_is_sent(tmp_path):
    kits = parties.make_kits(tmp_path / "certs", ["shop"])
    table, errors = write(tmp_path / "t.csv", "id", ["ann 7"]), {}

    def take_part(name, **more):
        try:
            own = AlignConfig(ids=(table,), id_columns=("id",), output_dir=str(tmp_path / name), threads=1, **more)
            align_tables(RunConfig(), own)
        except UserError as error:
            errors[name] = str(error)

    port = portpicker.pick_unused_port()
    bank = {"address": f"localhost:{port}", "peers": ("shop",), "certificate": str(kits / "coordinator")}
    threading.Thread(target=take_part, args=("bank",), kwargs=bank, daemon=True).start()
    take_part("shop", coordinator=f"localhost:{port}", certificate=str(kits / "shop"), normalize="digits")
    assert errors["shop"] == (
        "the coordinator's normalize is not this party's: agree on the same settings of the intersection."
    )


@pytest.mark.slow
def test_two_processes_align_over_a_connection(tmp_path):
    kits, port = parties.make_kits(tmp_path / "certs", ["shop"]), portpicker.pick_unused_port()
    bank, shop = tmp_path / "coordinator.csv", tmp_path / "shop.csv"
    write(bank, "id", [f"P{n}" for n in range(300)])
    write(shop, "id", [f"p{n}" for n in range(399, 199, -1)])
    common = ["--id_columns=id", "--output_dir=out"]
    first = start(
        "align",
        f"--ids={bank}",
        f"--address=localhost:{port}",
        "--peers=shop",
        f"--certificate={kits / 'coordinator'}",
        *common,
        cwd=tmp_path,
    )
    dial = [f"--ids={shop}", f"--coordinator=localhost:{port}", f"--certificate={kits / 'shop'}"]
    run("align", *dial, *common, cwd=tmp_path)
    out, err = first.communicate(timeout=100)
    assert first.returncode == 0, err
    assert "100 rows in common" in out
    assert ordered(bank, tmp_path / "out") == ordered(shop, tmp_path / "out")
    assert not (tmp_path / "out" / "unfinished").exists()
    log = (tmp_path / "out" / "audit.jsonl").read_text()
    assert "p250" not in log.lower()
