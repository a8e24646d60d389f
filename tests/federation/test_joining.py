"""What a coordinator and its participants say while participants join."""

from tests.federation import parties
from tff_tx.federation import hub as hub_module

NAMES = parties.PAIR


def test_the_coordinator_says_whom_it_waits_for(kits, caplog, monkeypatch):
    monkeypatch.setattr(hub_module, "_REMINDER_SECONDS", 0.05)
    with parties.hub(kits, NAMES) as hub, parties.serving(kits, "north", hub.port, parties.echo):
        hub.wait(["north"])
        caplog.clear()
        waiting = parties.background(hub.wait)
        parties.wait_until(lambda: len(caplog.records) > 1)
        with parties.serving(kits, "south", hub.port, parties.echo):
            waiting.join()
    assert caplog.messages[0] == "waiting for south to join, for 100 s more"


def test_two_processes_with_one_kit_are_told_at_both_ends(kits, caplog):
    with (
        parties.hub(kits, ["north"]) as hub,
        parties.serving(kits, "north", hub.port, parties.echo),
        parties.serving(kits, "north", hub.port, parties.echo),
    ):
        for words in (
            "north has joined 4 times within 60 s: two processes have its kit, of which one must end",
            "another connection, or another process, has joined with the same kit since",
        ):
            parties.wait_until(lambda words=words: any(words in message for message in caplog.messages))
