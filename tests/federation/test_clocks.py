"""Clocks of parties that differ: certificates alone depend on them, and deadlines on none."""

import datetime
import time

import grpc
import pytest

from tests.federation import parties
from tff_tx.core import certificates
from tff_tx.core.errors import UserError
from tff_tx.federation import wire

NAMES = ("north", "south")


def kits_of(directory, monkeypatch, **ahead):
    """Kits that an authority made whose clock is ahead of everybody's; the coordinator's is right."""

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.datetime.now(zone) + datetime.timedelta(**ahead)

    parties.make_kits(directory, ())
    shifted = type("datetime", (), {"datetime": Clock, "timedelta": datetime.timedelta, "timezone": datetime.timezone})
    with monkeypatch.context() as patched:
        patched.setattr(certificates, "datetime", shifted)
        for name in NAMES:
            certificates.make_node_certificate(str(directory), name, role="participant")
    return directory


def test_a_clock_that_is_an_hour_off_does_no_harm(tmp_path, monkeypatch):
    """By 59 minutes, through TLS and signatures; and deadlines do not notice when a clock jumps by an hour."""
    kits = kits_of(tmp_path / "certs", monkeypatch, minutes=59)
    with parties.hub(kits, NAMES) as hub, parties.serving(kits, "north", hub.port, parties.echo) as link:
        hub.wait(["north"])
        wall = time.time
        monkeypatch.setattr(time, "time", lambda: wall() + 3600)
        answers, failures = hub.ask(1, "echo", {"north": (b"said",)})
        assert (answers, failures, link.error) == ({"north": b"said"}, {}, None)


def test_a_clock_that_is_further_off_is_named(tmp_path, monkeypatch):
    """By both ends: the one whose clock it is does not begin, and the other refuses what it sends."""
    kits = kits_of(tmp_path / "certs", monkeypatch, hours=2)
    with pytest.raises(UserError, match="the certificate is valid from .* clock says .*: set it right"):
        wire.load_kit(str(kits / "north"), "participant")
    with parties.hub(kits, NAMES) as hub:
        code, _ = parties.Raw(kits, "north", hub.port).join(b"")
        assert code is grpc.StatusCode.UNAVAILABLE  # no connection: the handshake fails
