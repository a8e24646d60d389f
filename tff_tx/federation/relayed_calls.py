"""Calls that a third party relays, from time to time, as Flower's SuperLink does: messages to a node, and its replies.

Each end listens at a Unix socket. At the coordinator's, the relay tells what a node has replied, and asks what there is
for it; at the participant's, it hands on a message and waits for a reply. Frames of calls take turns so. A relay that
loses, repeats or changes anything ends the connection: both ends begin another, as after an outage.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing import connection as sockets
from typing import Any, Callable

from google.protobuf.message import DecodeError

from tff_tx.core.errors import UserError
from tff_tx.federation.calls import CallError
from tff_tx.federation.envelopes import EnvelopeError
from tff_tx.federation.messages_pb2 import Chunk, Exchange, Frame
from tff_tx.federation.service import Service

LOST, IDLE, REPLY = "lost", "idle", "reply"
"""What the relay tells of a node: its reply is lost, none is awaited, or has come."""

_MOST_BYTES = 16 << 20  # of an exchange, besides the chunk that exceeds it
_MOST_CALLS = 8  # a participant makes one or two at a time
_REPLY_SECONDS = 25.0  # a participant that computes has nothing to say, and gives a sign of life every 30 s
_LINGER_SECONDS = 0.05  # others follow, and an exchange is costly
_QUIET_SECONDS = 30.0  # one that waits has nothing to say either: whether it is there is all that is asked


_END = object()
"""What waits for frames gets it when the connection has ended."""


class _Ended(Exception):
    """The connection has ended."""


def _next(waiting: queue.SimpleQueue, seconds: float | None = None) -> Frame:
    """The next frame of a call; `_Ended`: there are no more, as with `queue.Empty` after some seconds."""
    frame = waiting.get(timeout=seconds)
    if frame is _END:
        raise _Ended
    return frame


class _Connection:
    """One end of a connection: frames that wait to be relayed, and calls that wait for frames.

    Args:
      mark: Its name.
    """

    def __init__(self, mark: bytes):
        self.mark, self.number, self.has_ended = mark, 0, False
        self._changed = threading.Condition()
        self._frames, self._bytes, self._put = collections.deque(), 0, 0.0
        self.calls: dict[int, queue.SimpleQueue] = {}

    def put(self, frame: Frame) -> None:
        """Has a frame relayed, when there is room; `_Ended`: it never will be."""
        with self._changed:
            self._changed.wait_for(lambda: self.has_ended or self._bytes < _MOST_BYTES)
            if self.has_ended:
                raise _Ended
            self._frames.append(frame)
            self._put = time.monotonic()
            self._bytes += len(frame.data)
            self._changed.notify_all()

    def take(self, seconds: float = 0.0) -> Exchange | None:
        """The frames that wait, or come within some seconds, once no others follow; 0: None while others do."""
        found, size, deadline = Exchange(connection=self.mark, number=self.number), 0, time.monotonic() + seconds
        with self._changed:
            while not self.has_ended and self._bytes < _MOST_BYTES:
                now = time.monotonic()
                until = self._put + _LINGER_SECONDS if self._frames else deadline
                if now >= until:
                    break
                if not seconds:
                    return None
                self._changed.wait(until - now)
            while self._frames and size < _MOST_BYTES:
                found.frames.append(frame := self._frames.popleft())
                size += len(frame.data)
            self._bytes -= size
            found.more = size >= _MOST_BYTES  # whoever puts them waited, too
            self._changed.notify_all()
        return found

    def end(self) -> None:
        """Ends it, with all of its calls."""
        with self._changed:
            self.has_ended = True
            self._changed.notify_all()
        for waiting in [*self.calls.values()]:
            waiting.put(_END)


def _parsed(data: bytes) -> Exchange:
    try:
        return Exchange.FromString(data)
    except DecodeError:
        return Exchange()  # of no connection


def _listen(path: str, talk: Callable[[sockets.Connection], None]) -> sockets.Listener:
    """Has threads `talk` with whoever connects to a Unix socket, which only its owner may do.

    Raises:
      UserError: If there can be no such socket, or another process listens there.
    """
    try:
        if os.path.exists(path):
            with contextlib.suppress(ConnectionRefusedError):
                sockets.Client(path, "AF_UNIX").close()
                raise OSError("another process listens there")
            os.unlink(path)  # of a process that was killed
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        listener = sockets.Listener(path, "AF_UNIX", backlog=16)
        os.chmod(path, 0o600)
    except OSError as error:
        raise UserError(f"{path} cannot be a socket ({error.strerror or error}): choose another path.") from None

    def converse(one: sockets.Connection) -> None:
        with one, contextlib.suppress(OSError, EOFError, ValueError):
            talk(one)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=converse, args=(listener.accept(),), daemon=True).start()

    threading.Thread(target=accept, name="relay", daemon=True).start()
    return listener


# The coordinator's end.


class _Served(_Connection):
    """A participant's connection, at the coordinator; a `Caller`."""

    def __init__(self, service: Service):
        super().__init__(os.urandom(16))
        self.certificate, self._service = b"", service
        self._sends, self._unfinished, self._asked = set(), set(), 0.0

    def is_active(self) -> bool:
        return not self.has_ended

    def read(self, reply: bytes) -> bool:
        """Takes a reply of the participant's end; False: it is none to the last exchange, or has too many calls."""
        found = _parsed(reply)
        if (found.connection, found.number) != (self.mark, self.number):
            return False
        for frame in found.frames:
            if frame.method and frame.call not in self.calls:
                if len(self.calls) >= _MOST_CALLS:
                    return False
                self.calls[frame.call] = waiting = queue.SimpleQueue()
                answer = threading.Thread(target=self._answer, args=(frame.call, frame.method, waiting), daemon=True)
                answer.start()
                if frame.method == "Send":
                    self._sends.add(frame.call)
            # Nobody reads more than the first frame of other calls.
            is_read = frame.method or frame.call in self._sends
            if is_read and (waiting := self.calls.get(frame.call)) is not None:
                waiting.put(frame)
            (self._unfinished.discard if frame.last else self._unfinished.add)(frame.call)
        return True

    def next(self) -> bytes:
        """What is to be relayed now; b"": nothing yet. While no whole call waits here, the participant is to go on."""
        found = self.take()
        quiet = 0.0 if self._unfinished or not self.calls else _QUIET_SECONDS
        if found is None or (not found.frames and time.monotonic() < self._asked + quiet):
            return b""
        self.number = found.number = self.number + 1
        waiting = {*self.calls} - {frame.call for frame in found.frames if frame.last}
        found.more = found.more or bool(waiting and not self._unfinished)  # whoever waits has no more to say
        self._asked = time.monotonic()
        return found.SerializeToString()

    def _answer(self, call: int, method: str, waiting: queue.SimpleQueue) -> None:
        try:
            stream = self._stream(waiting)
            if method == "Join":
                self.certificate = b""
                answer = iter([self._service.join(self, next(stream, b""))])
            elif method == "Receive":
                answer = self._service.receive(self, next(stream, b""))
            else:
                answer = iter([self._service.send(self, stream)])
            for chunk in answer:
                if chunk.ByteSize():  # empty ones keep connections alive
                    self.put(Frame(call=call, data=chunk.SerializeToString()))
            self.put(Frame(call=call, last=True))
        except EnvelopeError as error:
            with contextlib.suppress(_Ended):
                self.put(Frame(call=call, last=True, error=str(error)))
        except _Ended:
            pass
        except Exception:
            logging.exception("a call that was relayed failed")
            self.end()
        finally:
            self.calls.pop(call, None)
            self._sends.discard(call)

    @staticmethod
    def _stream(waiting: queue.SimpleQueue) -> Iterator[bytes]:
        while True:
            frame = _next(waiting)
            if frame.HasField("data"):
                yield frame.data
            if frame.last:
                return


def serve(service: Service, path: str) -> Callable[[], None]:
    """Answers the calls that are relayed to a Unix socket; gives what ends that.

    Who calls is known by the certificate that is sent when a session opens, and by signatures.

    Raises:
      UserError: If there can be no such socket.
    """
    has_ended = threading.Event()

    def talk(relay: sockets.Connection) -> None:
        nodes: dict[str, _Served] = {}
        try:
            while not has_ended.is_set():
                if not relay.poll(0.5):
                    continue
                node, state = relay.recv_bytes(100).decode().split()
                reply = relay.recv_bytes(3 * _MOST_BYTES)
                known = nodes.get(node)
                if known is None or state == LOST or (state == REPLY and not known.read(reply)) or known.has_ended:
                    if known is not None:
                        known.end()
                    nodes[node] = _Served(service)
                relay.send_bytes(nodes[node].next())
        finally:
            for one in nodes.values():
                one.end()

    listener = _listen(path, talk)

    def close() -> None:
        has_ended.set()
        listener.close()

    return close


# The participant's end.


class Relay:
    """Calls of a participant through a relay that comes to a Unix socket.

    Args:
      path: Of the socket.

    Raises:
      UserError: If there can be no such socket.
    """

    beat_seconds = 30.0  # it takes exchanges, and the answer waits for it

    def __init__(self, path: str):
        self._path, self._numbers = path, itertools.count(1)
        self._changed, self._connection = threading.Condition(), None
        self._listener = _listen(path, self._talk)

    def close(self) -> None:
        """Ends it, with all calls."""
        self._listener.close()
        with self._changed:
            self._begin(None)

    @contextlib.contextmanager
    def connect(self) -> Iterator[Relay]:
        """The participant's connection: this."""
        yield self

    def join(self, chunk: Chunk, timeout: float) -> Chunk:
        """As all that follow, see `Calls`."""
        return self._one(self._call("Join", [chunk], timeout))

    def receive(self, chunk: Chunk) -> Iterator[Chunk]:
        yield from self._call("Receive", [chunk])

    def send(self, chunks: Iterable[Chunk], timeout: float | None = None) -> Chunk:
        return self._one(self._call("Send", chunks, timeout))

    @staticmethod
    def _one(answer: Iterator[Chunk]) -> Chunk:
        for chunk in answer:
            return chunk
        raise CallError("the coordinator has not answered")

    def _call(self, method: str, chunks: Iterable[Chunk], timeout: float | None = None) -> Iterator[Chunk]:
        with self._changed:
            if not self._changed.wait_for(lambda: self._connection is not None, timeout):
                raise CallError(f"nobody relays at {self._path}")
            current = self._connection
        call, answers = next(self._numbers), queue.SimpleQueue()
        current.calls[call] = answers
        try:
            for chunk in chunks:
                current.put(Frame(call=call, method=method, data=chunk.SerializeToString()))
                method = ""
            current.put(Frame(call=call, last=True))
            while not (frame := _next(answers, timeout)).last:
                yield Chunk.FromString(frame.data)
            if frame.error:
                raise CallError(frame.error)
        except (_Ended, DecodeError, queue.Empty):
            raise CallError("the relay has lost the coordinator, or its answer") from None
        finally:
            current.calls.pop(call, None)

    def _begin(self, mark: bytes | None) -> None:
        if self._connection is not None:
            self._connection.end()
        self._connection = None if mark is None else _Connection(mark)
        self._changed.notify_all()

    def _talk(self, relay: Any) -> None:
        asked = _parsed(relay.recv_bytes(3 * _MOST_BYTES))
        with self._changed:
            if asked.number == 1:
                self._begin(asked.connection)
            current = self._connection
            if current is None or (asked.connection, asked.number) != (current.mark, current.number + 1):
                relay.send_bytes(b"")
                return
            current.number = asked.number
        for frame in asked.frames:
            if (answers := current.calls.get(frame.call)) is not None:  # whoever waited may have given up
                answers.put(frame)
        found = current.take(0.0 if asked.more else _REPLY_SECONDS)
        if found is None:
            found = Exchange(connection=current.mark, number=current.number)  # what waits goes with the next
        relay.send_bytes(found.SerializeToString())
