"""Messages to participants, and their answers unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from tff_tx.federation import contents
from tff_tx.federation.envelopes import EnvelopeError, Payload
from tff_tx.federation.hub import Hub


def ask(
    hub: Hub,
    round_num: int,
    phase: str,
    payloads: Mapping[str, Payload],
    seconds: float | None = None,
    unpack: Callable[[bytes], tuple[dict, Any]] = contents.unpack,
) -> tuple[dict[str, tuple[dict, Any]], dict[str, str]]:
    """Answers of participants, unpacked, and why others have none, both by name; see `Hub.ask`."""
    answers, failures = hub.ask(round_num, phase, payloads, seconds=seconds)
    found, refused = unpacked(answers, unpack)
    return found, {**failures, **refused}


def unpacked(
    answers: Mapping[str, bytes], unpack: Callable[[bytes], tuple[dict, Any]] = contents.unpack
) -> tuple[dict[str, tuple[dict, Any]], dict[str, str]]:
    """Answers that are what was asked for, in the same order, and what is wrong with others, both by name."""
    found, failures = {}, {}
    for name, payload in answers.items():
        try:
            said, rest = unpack(payload)
            if "error" in said:
                raise EnvelopeError(f"{name}: {str(said['error'])[:1000].rstrip('.')}")
            found[name] = (dict(said, bytes=len(payload)), rest)
        except EnvelopeError as error:
            failures[name] = str(error)
    return found, failures
