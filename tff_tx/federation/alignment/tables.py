"""Private set intersection of tables: all parties on this machine, or this one with others over a connection."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tqdm.auto import tqdm

from tff_tx import datasets
from tff_tx.config import RunConfig
from tff_tx.config.vertical import AlignConfig
from tff_tx.core import certificates, files
from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.readers import values
from tff_tx.datasets.sources import file_digest
from tff_tx.federation import alignment, audit_log, contents
from tff_tx.federation.alignment.member import VERSION
from tff_tx.federation.hub import Hub, Wording
from tff_tx.federation.link import Link

_STATE = "unfinished"
_WORDING = Wording("align.peers", "align.address", "start `python -m programs.align` there")


def align(
    ids: Sequence[str] | str, id_columns: Sequence[str] | str, config: RunConfig | None = None, **settings: Any
) -> dict[str, alignment.RowOrder]:
    """Private set intersection of tables; returns each party's rows in common, in an order that all share, by name.

    `tff_tx.federation.align(["bank.csv", "shop.csv"], ["customer"])` is what `python -m programs.align` does, with the
    same files in `output_dir`.

    Args:
      ids: Tables with identifiers, a party each; with `address` or `coordinator` this party's own alone.
      id_columns: Columns that together identify a row.
      config: Its section `data` says how tables are read; default: as they are found.
      **settings: Further fields of `AlignConfig`, such as `normalize="digits"`.

    Raises:
      UserError: As of `align_tables`, or if a setting is none.
    """
    if unknown := sorted(set(settings) - {field.name for field in AlignConfig.fields()}):
        raise UserError(f"{unknown[0]} is no setting of {', '.join(field.name for field in AlignConfig.fields())}.")
    ids, id_columns = ((of,) if isinstance(of, str) else tuple(of) for of in (ids, id_columns))
    return align_tables(config or RunConfig(), AlignConfig(ids=ids, id_columns=id_columns, **settings))


def align_tables(config: RunConfig, own: AlignConfig) -> dict[str, alignment.RowOrder]:
    """Intersects and writes a file for each order, see `order_path`; returns the orders by party.

    Args:
      config: Its section `data` says how tables are read.
      own: The tables, and where the other parties are.

    Raises:
      UserError: If a table cannot be read, has a row without an identifier or one twice, or a party does not agree.
    """
    if not own.id_columns:
        raise UserError(f"{setting('align.id_columns')} is missing: name the columns that identify a row.")
    if own.match == "keyed" and own.key_file is None:
        raise UserError(f"{setting('align.key_file')} is missing: {setting('align.match')}=keyed needs the secret.")
    if own.address and own.coordinator:
        raise UserError(
            f"{setting('align.address')} and {setting('align.coordinator')} exclude each other: one party listens."
        )
    files.make_directory(own.output_dir, setting("align.output_dir"))
    if own.address or own.coordinator:
        return _connected(config, own)
    if len(own.ids) < 2:
        raise UserError(f"{setting('align.ids')} must name two or more tables, or {setting('align.coordinator')} one.")
    names = [os.path.basename(path).partition(".")[0] for path in own.ids]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(
            f"{setting('align.ids')}: two tables are called {twice[0]}: rename one, as parties are named so."
        )
    members = {name: _member(name, path, config, own) for name, path in zip(names, own.ids)}
    with _progress() as progress:
        ask = lambda name, *asked: members[name].answer(*asked)  # noqa: E731
        alignment.intersect(ask, names, own.match, progress, _identifier(own, names))
    return {name: _write(members[name].order, path, name, own) for name, path in zip(names, own.ids)}


def order_path(own: AlignConfig, name: str) -> str:
    """Where the order of a party's rows is."""
    return os.path.join(own.output_dir, f"{name}.json")


def _member(name: str, path: str, config: RunConfig, own: AlignConfig) -> alignment.Member:
    masks = alignment.EllipticCurve(own.threads) if own.match == "ecdh" else alignment.KeyedHash(_key(own))
    points = alignment.Identifiers(_rows(path, config, own), masks.hash, own.normalize).points
    agreed = files.plain({**_plan(own), "id_columns": own.id_columns, "version": VERSION})
    tag = f"{file_digest([path])} {_digest(agreed)}"
    state = alignment.State(os.path.join(own.output_dir, _STATE, name), tag)
    return alignment.Member(name, points, masks, own.most_identifiers, state)


def _rows(path: str, config: RunConfig, own: AlignConfig) -> Iterator[tuple[str, list[str]]]:
    spec = dataclasses.replace(datasets.DataSpec.of(config), dataset="file", files=(path,))
    for chunk in datasets.read_records(spec, "row"):
        for where, row in zip(chunk["where"], chunk["row"]):
            if missing := [name for name in own.id_columns if name not in row]:
                raise UserError(
                    f"{where}: there is no column {missing[0]!r} ({setting('align.id_columns')}); the columns are "
                    f"{', '.join(map(str, row))}."
                )
            yield where, [_text(row[name], where, name) for name in own.id_columns]


def _text(value: Any, where: str, name: str) -> str:
    """A value of an identifying column as all formats of files have it as text; empty where there is none.

    Whole numbers of a column that has them as floats, as where one is missing, are those of a column of whole numbers.
    """
    if values.is_missing(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    try:
        return values.as_text(value)
    except (TypeError, ValueError):
        shown = repr(value)[:60]
        raise UserError(f"{where}: {name} has {shown}, which is no identifier: give a text or a number.") from None


def _identifier(own: AlignConfig, names: Sequence[str]) -> str:
    """What all parties know an intersection by; the same one until it is done, if its parties are the same."""
    path = os.path.join(own.output_dir, _STATE, "identifier.json")
    try:
        stored = files.parse_json(path)
    except (OSError, ValueError):
        stored = {}
    if stored.get("names") != list(names):
        stored = {"names": list(names), "identifier": os.urandom(16).hex()}
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        files.write_json(path, stored)
    return stored["identifier"]


def _key(own):
    try:
        with open(own.key_file, "rb") as file:
            return file.read().strip()
    except OSError as error:
        raise UserError(f"{setting('align.key_file')}={own.key_file} cannot be read ({error.strerror}).") from None


def _write(order: alignment.RowOrder, path: str, name: str, own: AlignConfig) -> alignment.RowOrder:
    order = dataclasses.replace(order, table=file_digest([path]))
    order.save(order_path(own, name))
    shutil.rmtree(os.path.join(own.output_dir, _STATE), ignore_errors=True)
    return order


class _progress(tqdm):  # noqa: N801 -- a bar that is called with (done, total)
    def __init__(self):
        super().__init__(unit=" points", dynamic_ncols=True, mininterval=0.5)

    def __call__(self, done, total=None):
        self.total = total
        self.update(done - self.n)


# Over a connection.


def _connected(config: RunConfig, own: AlignConfig) -> dict[str, alignment.RowOrder]:
    needed = ("certificate", *(("peers",) if own.address else ()))
    if missing := [name for name in needed if not getattr(own, name)]:
        raise UserError(f"{setting(f'align.{missing[0]}')} is missing: a connection needs it.")
    if len(own.ids) != 1:
        raise UserError(f"{setting('align.ids')} must name one table, this party's own.")
    name = certificates.name_of(certificates.read_certificate(os.path.join(own.certificate, "node.crt")))
    member = _member(name, own.ids[0], config, own)
    log = audit_log.AuditLog(os.path.join(own.output_dir, audit_log.NAME))
    (_coordinate if own.address else _participate)(member, own, log)
    return {name: _write(member.order, own.ids[0], name, own)}


def _plan(own: AlignConfig) -> dict[str, Any]:
    """What all must have alike."""
    return {"purpose": "alignment", "normalize": own.normalize, "match": own.match, "columns": len(own.id_columns)}


def _digest(plan: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def _coordinate(member: alignment.Member, own: AlignConfig, log: audit_log.AuditLog) -> None:
    listed = own.participants or certificates.participants_beside(own.certificate)
    plan, number = _plan(own), 0
    of = own.address, own.certificate, listed, own.peers, _digest(plan), plan
    with Hub(*of, wording=_WORDING) as hub, _progress() as progress:
        hub.wait()

        def ask(name, phase, said, data):
            nonlocal number
            if name == member.name:
                return member.answer(phase, said, data)
            number += 1
            payload = (*contents.pack({**said, "number": number})[:1], data)
            log.append(phase, payload, to=name)
            answers, failures = hub.ask(number, phase, {name: payload})
            if failures:
                raise UserError(f"the intersection ended: {failures[name]}.")
            told, found = _unpack(answers[name])
            if "error" in told:
                raise UserError(f"{name}: {told['error']}")
            return told, found

        names = (member.name, *own.peers)
        alignment.intersect(ask, names, own.match, progress, _identifier(own, names))


def _participate(member: alignment.Member, own: AlignConfig, log: audit_log.AuditLog) -> None:
    def check_plan(plan):
        if plan != _plan(own):
            differing = [name for name, value in _plan(own).items() if plan.get(name) != value]
            raise UserError(
                f"the coordinator's {', '.join(differing)} is not this party's: agree on the same settings of the "
                "intersection."
            )

    def handle(header, payload):
        said, data = _unpack(payload)
        said, data = member.answer(header.phase, said, data)
        if header.phase == "order":
            link.stop()
        return (*contents.pack(said)[:1], data)

    link = Link(
        own.coordinator,
        own.certificate,
        _digest,
        check_plan,
        handle,
        lambda number, phase, payload, known: log.append(phase, payload, known, to=own.coordinator),
    )
    link.serve()


def _unpack(payload: bytes) -> tuple[dict[str, Any], bytes]:
    size = 8 + int.from_bytes(payload[:8], "big")
    return contents.unpack(payload[:size])[0], payload[size:]
