"""Calls as gRPC over mutual TLS: who calls is known by the certificate of the connection."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import re
from collections.abc import Iterable, Iterator
from typing import Callable

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tff_tx.core.errors import UserError
from tff_tx.federation import wire
from tff_tx.federation.calls import CallError, NotAdmittedError, NotJoinedError
from tff_tx.federation.envelopes import EnvelopeError
from tff_tx.federation.messages_pb2 import Chunk
from tff_tx.federation.service import BEAT_SECONDS, Service

_FINAL = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
_CODES = {NotAdmittedError: grpc.StatusCode.PERMISSION_DENIED, NotJoinedError: grpc.StatusCode.FAILED_PRECONDITION}
# gRPC has no status of its own for a certificate that does not verify, only BoringSSL's words. An authority of the same
# name with another key is a bad signature.
_UNVERIFIED = re.compile("CERTIFICATE_VERIFY_FAILED|BAD_SIGNATURE|Hostname Verification Check failed|peer certificate")


def serve(service: Service, address: str, certificate: str, callers: int) -> tuple[Callable[[], None], int]:
    """Answers calls; gives what ends that, and the port.

    Args:
      service: Answers calls.
      address: To listen at, host:port.
      certificate: Directory of the coordinator's kit.
      callers: How many participants there are.

    Raises:
      RuntimeError: If it cannot listen at the address.
    """
    # A participant receives, and sends, with a thread each; a third call takes the place of another.
    pool = concurrent.futures.ThreadPoolExecutor(3 * callers + 8, thread_name_prefix="federation")
    server = grpc.server(pool, options=wire.OPTIONS)
    # Chunks are parsed by the service: gRPC would log a traceback of what is none.
    kinds = {
        "Join": grpc.unary_unary_rpc_method_handler(_rejecting(service.join), None, Chunk.SerializeToString),
        "Receive": grpc.unary_stream_rpc_method_handler(
            _rejecting_stream(service.receive), None, Chunk.SerializeToString
        ),
        "Send": grpc.stream_unary_rpc_method_handler(_rejecting(service.send), None, Chunk.SerializeToString),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, kinds),))
    port = server.add_secure_port(address, wire.server_credentials(certificate))
    server.start()
    return lambda: server.stop(1.0).wait(), port


class _Caller:
    def __init__(self, context: grpc.ServicerContext):
        self.certificate, self.is_active = _der(context.auth_context()["x509_pem_cert"][0]), context.is_active


def _rejecting(method):
    def handle(data, context):
        try:
            return method(_Caller(context), data)
        except EnvelopeError as error:
            context.abort(_CODES.get(type(error), grpc.StatusCode.INVALID_ARGUMENT), str(error))

    return handle


def _rejecting_stream(method):
    def handle(data, context):
        try:
            yield from method(_Caller(context), data)
        except EnvelopeError as error:
            context.abort(_CODES.get(type(error), grpc.StatusCode.INVALID_ARGUMENT), str(error))

    return handle


@functools.lru_cache(1024)
def _der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


@contextlib.contextmanager
def connect(address: str, certificate: str) -> Iterator[_Calls]:
    """A participant's connection to a coordinator; a call raises `UserError` if that has no valid certificate.

    Args:
      address: Of the coordinator, host:port.
      certificate: Directory of the participant's kit.
    """
    with wire.channel(address, certificate) as channel:
        yield _Calls(channel, address, certificate)


class _Calls:
    beat_seconds = BEAT_SECONDS

    def __init__(self, channel: grpc.Channel, *place: str):
        self._place = place
        kinds = {"Join": channel.unary_unary, "Receive": channel.unary_stream, "Send": channel.stream_unary}
        self._made = {
            name: kind(f"/{wire.SERVICE}/{name}", Chunk.SerializeToString, Chunk.FromString)
            for name, kind in kinds.items()
        }

    def join(self, chunk: Chunk, timeout: float) -> Chunk:
        with self._telling():
            return self._made["Join"](chunk, timeout=timeout)

    def receive(self, chunk: Chunk) -> Iterator[Chunk]:
        with self._telling():
            yield from self._made["Receive"](chunk)

    def send(self, chunks: Iterable[Chunk], timeout: float | None = None) -> Chunk:
        with self._telling():
            return self._made["Send"](iter(chunks), timeout=timeout)

    @contextlib.contextmanager
    def _telling(self):
        try:
            yield
        except grpc.RpcError as error:
            words = error.details() or ""
            if error.code() not in _FINAL and _UNVERIFIED.search(words):
                address, certificate = self._place
                raise UserError(
                    f"{address} has no certificate of the authority in {certificate} for this address ({words}): take "
                    "a kit of the coordinator's authority, or correct the address."
                ) from None
            raise CallError(words, error.code() in _FINAL) from None
