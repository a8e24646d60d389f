"""A coordinator and participants in one process, and what stands between them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import types

import grpc

from tff_tx.core import certificates
from tff_tx.federation import contents, wire
from tff_tx.federation.hub import Hub, Limits
from tff_tx.federation.link import Link
from tff_tx.federation.messages_pb2 import Chunk
from tff_tx.federation.secure_sums import Authority, Identity

RUN = "a plan"
LONG = Limits(join=100.0, phase=100.0, silence=100.0)
"""Longer than anything takes where nobody is late or gone, on a busy machine too."""


def make_kits(directory, names):
    """An authority with a coordinator and participants."""
    certificates.make_node_certificate(str(directory), "coordinator", role="coordinator")
    for name in names:
        certificates.make_node_certificate(str(directory), name, role="participant")
    return directory


def hub(kits, names, **more):
    """A hub at a free port of this machine."""
    options = {"limits": LONG, "run": RUN, "welcome": {"plan": RUN}, **more}
    listed = os.path.join(kits, certificates.PARTICIPANTS)
    return Hub("localhost:0", os.path.join(kits, "coordinator"), listed, names, **options)


@contextlib.contextmanager
def serving(kits, name, port, handle, **more):
    """A participant in a thread; gives its link with the thread, and `error` if `serve` ended by one."""
    options = {"digest_of": lambda welcome: welcome["plan"], "on_plan": lambda welcome: None, **more}
    link = Link(f"localhost:{port}", os.path.join(kits, name), handle=handle, **options)
    link.error = None

    def serve():
        try:
            link.serve()
        except Exception as error:
            link.error = error

    link.thread = background(serve)
    try:
        yield link
    finally:
        link.stop()


def echo(header, payload):
    """A participant that answers what it is asked."""
    return (payload,)


def background(function):
    """A thread that runs a function."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def wait_until(condition, seconds=100.0):
    """Waits for what other threads bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


PAIR = ("north", "south")
"""The participants of the fixtures `kits` and `hub`."""


class Clock:
    """The hub's, which a test sets forward past all limits of `LONG`: nobody else is late, as busy as a machine is."""

    def __init__(self, monkeypatch):
        self._ahead = 0.0
        own = types.SimpleNamespace(monotonic=lambda: time.monotonic() + self._ahead)
        monkeypatch.setattr("tff_tx.federation.hub.time", own)

    @contextlib.contextmanager
    def passing(self, hub, name, is_gone=lambda: True):
        """Meanwhile, it is set forward if this participant alone owes an answer, and is gone."""
        peers, ended = hub._peers, threading.Event()

        def watch():
            while not ended.wait(0.02):
                with peers.changed:
                    if [each for each in peers if peers[each].request is not None] == [name] and is_gone():
                        self._ahead += 101.0
                        peers.changed.notify_all()

        watching = background(watch)
        try:
            yield
        finally:
            ended.set()
            watching.join()


class Raw:
    """A participant that sends what a test makes; its calls give the status code and the words."""

    def __init__(self, kits, name, port):
        self.kit = os.path.join(kits, name)
        self.identity, self.authority = Identity.load(self.kit), Authority.load(self.kit)
        self._channel = wire.channel(f"localhost:{port}", self.kit)
        self.join = self._made(self._channel.unary_unary, "Join")
        self.receive = self._made(self._channel.unary_stream, "Receive")
        self.send = self._made(self._channel.stream_unary, "Send")

    def _made(self, kind, name):
        call = kind(f"/{wire.SERVICE}/{name}", None, Chunk.FromString)

        def run(data):
            try:
                found = call(iter(data) if name == "Send" else data, timeout=100.0)
                return next(found) if name == "Receive" else found
            except grpc.RpcError as error:
                return error.code(), error.details()

        return run

    def session(self):
        """Joins by hand."""
        from tff_tx.federation.envelopes import Session, parse_header

        mine = Session(self.identity, self.authority, b"", os.urandom(16))
        reply = self.join(next(mine.chunks(0, "join")).SerializeToString())
        assert isinstance(reply, Chunk), reply
        key = parse_header(reply.envelope).session
        return Session(self.identity, self.authority, reply.envelope.certificate, key, RUN)

    def message(self, session):
        """The next message to this participant: header and payload."""
        asked = next(session.chunks(0, "receive")).SerializeToString()
        receive = self._channel.unary_stream(f"/{wire.SERVICE}/Receive", None, Chunk.FromString)
        return session.read(receive(asked, timeout=100.0), 1 << 20)

    def close(self):
        self._channel.close()


class Proxy:
    """Forwards a port of this machine, slowly if `bytes_per_second` is set, until it is cut."""

    def __init__(self, port, bytes_per_second=None):
        self._target, self._rate, self._sockets, self._blocked = port, bytes_per_second, [], 0.0
        self._server = socket.create_server(("localhost", 0))
        self.port, self.seen = self._server.getsockname()[1], bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._server.accept()
                if time.monotonic() < self._blocked:
                    client.close()
                    continue
                server = socket.create_connection(("localhost", self._target))
            except OSError:
                return
            self._sockets += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.seen += data
                if self._rate:
                    time.sleep(len(data) / self._rate)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        """Ends all connections; new ones are forwarded."""
        sockets, self._sockets = self._sockets, []
        for end in sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
                end.close()

    def block(self, seconds):
        """Ends all connections, and forwards no new ones for some time."""
        self._blocked = time.monotonic() + seconds
        self.cut()

    def close(self):
        self._server.close()
        self.cut()


def said(text):
    """A payload."""
    return contents.pack({"said": text})
