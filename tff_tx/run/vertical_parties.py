"""The parties of a vertical federation as processes of their own, over the federation's transport."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from tff_tx.config import RunConfig
from tff_tx.config.rules_vertical import check_vertical, feature_parties, middle_of
from tff_tx.config.vertical import VerticalActionConfig, VerticalConfig
from tff_tx.core import certificates, files
from tff_tx.core.errors import UserError, setting
from tff_tx.federation import audit_log, contents, wire
from tff_tx.federation.hub import Hub, Wording
from tff_tx.federation.link import Link
from tff_tx.run import directory, vertical, vertical_federation
from tff_tx.vertical import Ask

_WORDING = Wording("vertical.parties", "vertical_run.address", "start `python -m programs.vertical` there")


def run_party(config: RunConfig, settings: VerticalConfig, own: VerticalActionConfig) -> dict[str, float] | str | None:
    """Acts as one party: the one with the labels listens, the others dial; returns what `vertical.act` does to it.

    Others return the path of their predictions of rows that they alone have, None without any.

    A party in the middle dials the one with the labels, and listens for those with columns.

    Args:
      config: Data, seed and run directory, this party's own.
      settings: Of the federation, alike at all parties.
      own: Who this is, and where the others are.

    Raises:
      UserError: If settings differ between parties, or one is wrong.
    """
    parties = check_vertical(settings)
    if own.party not in parties:
        raise UserError(
            f"{setting('vertical_run.party')}={own.party}: there is no such party; there are {', '.join(parties)}."
        )
    has_labels, middle = own.party == vertical_federation.label_party_of(parties), middle_of(parties)
    needed, what = ["coordinator", "certificate"], "has no labels and dials"
    if has_labels:
        needed, what = ["address", "certificate"], "has the labels and listens"
    elif own.party == middle:
        needed, what = ["address", *needed, "middle_certificate"], "is in the middle, where it dials and listens"
    if missing := [name for name in needed if getattr(own, name) is None]:
        raise UserError(f"{setting(f'vertical_run.{missing[0]}')} is missing: {own.party} {what}.")
    plan = _plan(config, settings)
    if not has_labels:
        return _serve(config, settings, own, plan)
    others = feature_parties(parties) if middle is None else [middle]
    with _asking_others(settings, own, own.certificate, others, plan) as ask:
        return vertical.act(config, settings, own, ask)


def log_path(config: RunConfig, party: str) -> str:
    """Where a party without labels logs all that leaves it."""
    return os.path.join(vertical_federation.party_directory(vertical.run_directory(config), party), audit_log.NAME)


@contextlib.contextmanager
def _asking_others(
    settings: VerticalConfig, own: VerticalActionConfig, kit: str, others: Sequence[str], plan: dict[str, Any]
) -> Iterator[Ask]:
    """Listens until all others have come, and ends them at last."""
    listed = own.participants or certificates.participants_beside(kit)
    with Hub(own.address, kit, listed, others, _digest(plan), plan, wording=_WORDING) as hub:
        hub.wait()
        try:
            yield _asking(hub, settings.cut_compression != "none")
        finally:
            hub.ask(0, "bye", dict.fromkeys(others, contents.pack({})))


def _plan(config: RunConfig, settings: VerticalConfig) -> dict[str, Any]:
    """What all parties must have alike; tables are at places of their own."""
    said = {f.name: getattr(settings, f.name) for f in settings.fields() if not f.option.may_change}
    parties = {name: {**party, "files": (), "order": None} for name, party in said["parties"].items()}
    return files.plain({"purpose": "vertical", "seed": config.run.seed, **said, "parties": parties})


def _digest(plan: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def _asking(hub: Hub, compressed: bool):
    numbers = itertools.count(1)  # so that no message equals an earlier one

    def ask(phase, asked):
        number = next(numbers)
        payloads = {
            name: contents.pack({**said, "number": number}, contents.encode(arrays, compressed))
            for name, (said, arrays) in asked.items()
        }
        answers, failures = hub.ask(number, phase, payloads)
        for reason in failures.values():
            raise UserError(f"{setting('vertical.parties')}: {reason}: start it again, and this command.")
        found = {name: contents.unpack(answers[name]) for name in asked}
        for name, (told, _) in found.items():
            if "error" in told:
                raise UserError(f"{setting('vertical.parties')}: {name}: {told['error']}")
        return found

    return ask


def _serve(config: RunConfig, settings: VerticalConfig, own: VerticalActionConfig, plan: dict[str, Any]) -> str | None:
    """Answers until the one with the labels says goodbye; returns the path of predictions if it has written any."""
    run_dir, parties = vertical.run_directory(config), settings.party_configs()
    path, features = vertical_federation.party_directory(run_dir, own.party), feature_parties(parties)
    with directory.writing(path):
        if parties[own.party].middle:
            with _asking_others(settings, own, own.middle_certificate, features, plan) as ask:
                party = vertical_federation.stored_middle(config, settings, own.party, run_dir, ask)
                _answer(party, settings, own, plan, log_path(config, own.party))
            return None
        trained = os.path.exists(os.path.join(path, vertical_federation.FACTS))
        kit = wire.load_kit(own.certificate, "participant", features)
        party = vertical_federation.load_stored(
            config, settings, own.party, run_dir, trained, vertical_federation.noise_key(path), kit
        )
        _answer(party, settings, own, plan, log_path(config, own.party))
        return party.predictions


def _answer(
    party: vertical_federation.StoredParty,
    settings: VerticalConfig,
    own: VerticalActionConfig,
    plan: dict[str, Any],
    path: str,
) -> None:
    """Answers who listens, until that says goodbye; logs all that is sent, at a path.

    Raises:
      UserError: If what it answered last was an error, which ended the others.
    """
    log, refused = audit_log.AuditLog(path), []

    def check_plan(other):
        differing = [name for name, value in plan.items() if other.get(name) != value]
        if differing:
            raise UserError(
                f"{', '.join(differing)} of the party at {own.coordinator} is not this party's: all need the same."
            )

    def handle(header, payload):
        if header.phase == "bye":
            link.stop()
            return contents.pack({})
        refused.clear()
        try:
            said, arrays = party.answer(header.phase, *contents.unpack(payload))
        except UserError as error:
            refused.append(error.within(f"{setting('vertical.parties')}: {own.party}"))
            raise
        return contents.pack(said, contents.encode(arrays, settings.cut_compression != "none"))

    def log_sent(number, phase, payload, known):
        log.append(phase, payload, known, round=number, to=own.coordinator)

    link = Link(own.coordinator, own.certificate, _digest, check_plan, handle, log_sent)
    link.serve()
    if refused:
        raise refused[0]
