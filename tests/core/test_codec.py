"""Bytes: exact both ways, and anything else raises."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from tff_tx.core import codec
from tff_tx.core.codec import CodecError, decode, encode

RNG = np.random.default_rng(0)
ARRAYS = {
    "floats": RNG.normal(size=[3, 4]).astype(np.float32),
    "scalar": np.array(2.5, np.float64),
    "half": np.array([1, -0.0, 65504], np.float16),
    "not_finite": np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0], np.float32),
    "payload": np.array([0x7FC01234, 0xFFFFFFFF], np.uint32).view(np.float32),
    "booleans": np.array([True, False, True]),
    "signs": RNG.integers(0, 2, 1001).astype(np.uint8),
    "levels": RNG.integers(0, 16, [7, 11]).astype(np.uint8),
    "constant": np.full([1000], 7, np.int32),
    "ascending": np.sort(RNG.choice(10**6, 500, replace=False)).astype(np.int32),
    "descending": np.arange(500)[::-1].astype(np.int16),
    "widest": np.array([-(2**63), 2**63 - 1, 0]),
    "unsigned": np.array([2**64 - 1, 0], np.uint64),
    "negative": RNG.integers(-9, -3, 100).astype(np.int8),
    "seed": np.array([-5, 2**62]),
    "empty": np.zeros([0, 4], np.int8),
    "empty_floats": np.zeros([3, 0], np.float32),
    "big_endian": np.arange(5, dtype=">i4"),
    "strided": np.arange(20, dtype=np.float32).reshape(4, 5).T[::2],
    "many_zeros": np.zeros(10**6, np.float32),
    "many_equal": np.full(10**6, 3, np.uint8),
}


@pytest.mark.parametrize("entropy_coding", [True, False])
def test_arrays_come_back_bit_for_bit(entropy_coding):
    arrays = list(ARRAYS.values())
    back = decode(encode(arrays, entropy_coding))
    assert len(back) == len(arrays)
    for before, after in zip(arrays, back):
        assert (after.shape, after.dtype) == (before.shape, before.dtype.newbyteorder("="))
        assert after.tobytes() == before.astype(after.dtype).tobytes()


def test_no_arrays_are_a_message_too():
    assert decode(encode([])) == []


def test_what_arrays_cannot_be_is_told():
    with pytest.raises(TypeError, match="complex64 cannot be encoded"):
        encode([np.zeros(3, np.complex64)])


@pytest.fixture(scope="module")
def message():
    small = ["floats", "signs", "levels", "ascending", "seed", "empty", "not_finite", "booleans"]
    return encode([ARRAYS[name].reshape(-1)[:40] for name in small])


def test_every_flipped_byte_raises(message):
    for place in range(len(message)):
        for flip in (1, 0x80, 0xFF, 1 + place % 255):
            wrong = bytearray(message)
            wrong[place] ^= flip
            with pytest.raises(CodecError):
                decode(bytes(wrong))


def test_every_truncation_and_any_addition_raises(message):
    for length in range(len(message)):
        with pytest.raises(CodecError):
            decode(message[:length])
    with pytest.raises(CodecError, match="says it has"):
        decode(message + b"\0")


def forged(body):
    """A message whose frame is right, whatever is in it."""
    framed = codec._HEADER.pack(codec.MAGIC, codec.VERSION, codec._HEADER.size + len(body) + 4) + body
    return framed + struct.pack("<I", zlib.crc32(framed))


def test_messages_forged_with_the_right_checksum_raise_or_decode(message):
    """No other error than `CodecError`, whatever a body says."""
    rng, body = np.random.default_rng(1), message[codec._HEADER.size : -4]
    refused = 0
    for _ in range(3000):
        wrong = bytearray(body)
        for place in rng.integers(0, len(body), rng.integers(1, 4)):
            wrong[place] = rng.integers(256)
        wrong = wrong[: rng.integers(1, len(body) + 1)] if rng.random() < 0.3 else wrong
        try:
            decode(forged(bytes(wrong)))
        except CodecError:
            refused += 1
    assert refused > 1500


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"\x01\x02\x01\xff\xff\xff\xff\xff\xff\xff\x7f\x01\x01" + b"\0" * 8 + b"\0\0", "more than fit"),
        (b"\x01\x0a\x02" + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" * 2 + b"\0\x01\0", "more than fit"),
        (b"\x01\x63\x00\x00", "type numbered 99"),
        (b"\x01\x02\x21", "33 where at most 32"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "beyond 64 bits"),
        (b"\x00\x00", "1 bytes behind"),
        (b"\x01\x02\x00\x01\x00" + b"\0" * 8 + b"\0\0", "integers of 0 bits"),
        (b"\x01\x02\x00\x01\x09" + b"\0" * 8 + b"\0\0", "integers of 9 bits in an array of uint8"),
    ],
)
def test_what_cannot_be_is_refused_without_taking_the_memory(body, sentence):
    with pytest.raises(CodecError, match=sentence):
        decode(forged(body), max_bytes=None)
    with pytest.raises(CodecError):
        decode(forged(body))


def peak_of(function):
    """Bytes that a call takes, at most at a time."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


_LARGE = 8_000_000
BOMBS = {
    "levels": [np.zeros(_LARGE, np.uint8)],
    "gaps": [np.arange(_LARGE // 8)],
    "wide": [np.tile([0, 2**40], _LARGE // 16)],
    "floats": [np.zeros(_LARGE // 4, np.float32)],
    "many": [np.zeros(_LARGE // 20, np.uint8)] * 20,
}


@pytest.mark.parametrize("arrays", BOMBS.values(), ids=BOMBS)
def test_a_valid_message_takes_no_more_than_it_may(arrays):
    message = encode(arrays)
    assert len(message) < _LARGE / 300

    def refused():
        with pytest.raises(CodecError, match="more than the 7999999 bytes of max_bytes"):
            decode(message, max_bytes=_LARGE - 1)

    assert peak_of(refused) < (1e5 if len(arrays) == 1 else 1.2 * _LARGE)
    assert peak_of(lambda: decode(message, max_bytes=_LARGE)) < 3 * _LARGE + 4e6


def test_a_bomb_is_refused():
    """Data that inflate to far more than is said are not inflated to their end."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = bomb.compress(bytes(50_000_000)) + bomb.flush()
    body = b"\x01\x02\x01\x05\x00\x01" + codec._varint(len(bomb)) + bomb
    with pytest.raises(CodecError, match="does not end where it says"):
        decode(forged(body))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [(b"", "is cut"), (b"PK\x03\x04" + b"\0" * 30, "no message"), (b"TFTX\x02" + b"\0" * 30, "version 2")],
)
def test_what_is_no_message_is_told(wrong, sentence):
    with pytest.raises(CodecError, match=sentence):
        decode(wrong)


def entropy(levels):
    share = np.bincount(levels) / len(levels)
    return -np.sum(share[share > 0] * np.log2(share[share > 0]))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_levels_take_about_their_entropy(bits):
    """Levels of normal values, against the bound of Shannon's source coding theorem."""
    normal = np.random.default_rng(0).normal(size=100_000)
    levels = np.clip(np.round(normal * 2**bits / 8 + 2 ** (bits - 1) - 0.5), 0, 2**bits - 1).astype(np.uint8)
    assert len(encode([levels])) * 8 / len(levels) < 1.03 * entropy(levels) + 0.01


def test_ascending_places_take_less_than_a_third_of_int32():
    places = np.sort(np.random.default_rng(0).choice(10**6, 10_000, replace=False)).astype(np.int32)
    assert len(encode([places])) < 10_000 * 4 / 3
