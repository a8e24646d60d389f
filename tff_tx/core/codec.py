"""Arrays as bytes and back: what a transport sends, with a version, checks and entropy coding.

A message is, little-endian, the magic `TFTX`, a version byte, the length of the whole message (uint64), the number of
arrays and then each array, and the CRC-32 of all that comes before it. Counts are LEB128 varints. An array is its type,
its shape, how its values are laid out, how that layout is deflated, and as many bytes as it says. It comes back bit for
bit, whatever its values: layouts and entropy coding are lossless and chosen by what is shortest.

Integers are stored as differences from their smallest value (or, if that is shorter and they ascend, from their
predecessors) in as few bits as the largest needs; up to eight bits are packed one after another, wider ones and floats
are laid out byte by byte of significance. What results goes through the Huffman coder of DEFLATE (RFC 1951), which on
packed levels of a quantizer comes within two percent of their entropy. The bit patterns, not the formulas of papers,
are what communication is measured by.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np

MAGIC = b"TFTX"
VERSION = 1

_HEADER = struct.Struct("<4sBQ")
_CHECKSUM = struct.Struct("<I")
# By number in a message: booleans, integers of 8 to 64 bits, each signed and unsigned, floats of 16 to 64 bits.
_TYPES = tuple(np.dtype(code).newbyteorder("<") for code in "?bBhHiIqQefd")
_PLAIN, _OFFSETS, _GAPS = range(3)
_STORED, _DEFLATED = range(2)
_WINDOW_BITS = -15  # raw DEFLATE: the message has a checksum of its own
_MAX_DIMENSIONS = 32
_CHUNK = 1 << 16  # values that are unpacked at once, a multiple of 8
MAX_BYTES = 1 << 30
"""The most that `decode` makes of a message by default."""


class CodecError(ValueError):
    """Bytes that are no message, or no longer the message that was encoded."""


def encode(arrays: Sequence[np.ndarray], entropy_coding: bool = True) -> bytes:
    """Encodes arrays.

    Args:
      arrays: Of booleans, integers or floats of at least 16 bits, of any shape.
      entropy_coding: Whether to look for the shortest bytes; without, writing floats takes no time, and no less space.

    Raises:
      TypeError: If an array is of another type.
    """
    body = bytearray(_varint(len(arrays)))
    for array in arrays:
        body += _encode_array(np.asarray(array), entropy_coding)
    length = _HEADER.size + len(body) + _CHECKSUM.size
    message = _HEADER.pack(MAGIC, VERSION, length) + bytes(body)
    return message + _CHECKSUM.pack(zlib.crc32(message))


def decode(message: bytes, max_bytes: int | None = MAX_BYTES) -> list[np.ndarray]:
    """Decodes a message.

    A short message may hold very much: whoever takes messages from strangers sets the bound to what they are to send,
    and checks the shapes that come out. Arrays equal the encoded ones in type, shape and every bit.

    Args:
      message: Of `encode`.
      max_bytes: Bytes of all arrays together, at most, checked before an array is inflated; decoding takes three times
        as much. None: no bound, for messages of one's own.

    Raises:
      CodecError: If the message is cut, changed, longer than it says, of another version or no message at all, or holds
        more than the bound.
    """
    _check(message)
    reader = _Reader(message[_HEADER.size : -_CHECKSUM.size], max_bytes)
    try:
        arrays = [_decode_array(reader) for _ in range(reader.count(len(message)))]
    except CodecError:
        raise
    except (zlib.error, ValueError, OverflowError, MemoryError) as error:
        raise CodecError(f"the message is malformed ({error}).") from error
    if reader.left:
        raise CodecError(f"the message has {reader.left} bytes behind its last array.")
    return arrays


def _check(message):
    if len(message) < _HEADER.size + _CHECKSUM.size:
        raise CodecError(f"the message is cut: it has {len(message)} bytes, less than any has.")
    magic, version, length = _HEADER.unpack_from(message)
    if magic != MAGIC:
        raise CodecError(f"these bytes are no message of this codec: they begin with {bytes(magic)!r}, not {MAGIC!r}.")
    if version != VERSION:
        raise CodecError(f"the message is of version {version} of the format, and only {VERSION} is known.")
    if length != len(message):
        raise CodecError(f"the message says it has {length} bytes, and {len(message)} came.")
    (checksum,) = _CHECKSUM.unpack_from(message, len(message) - _CHECKSUM.size)
    found = zlib.crc32(message[: -_CHECKSUM.size])
    if checksum != found:
        raise CodecError(f"the message was changed on its way: its CRC-32 is {found:08x}, not {checksum:08x}.")


def _encode_array(array, entropy_coding):
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _TYPES:
        raise TypeError(f"arrays of {array.dtype} cannot be encoded, only of {', '.join(t.name for t in _TYPES)}.")
    values = array.astype(dtype, copy=False).reshape(-1)
    layouts = [_float_layout(values)] if dtype.kind == "f" else list(_integer_layouts(values))
    codings = (_shortest(data) if entropy_coding else (_STORED, data) for _, data in layouts)
    coded = [(head + bytes([coding]), data) for (head, _), (coding, data) in zip(layouts, codings)]
    head, data = min(coded, key=lambda pair: len(pair[1]))
    shape = b"".join(_varint(size) for size in array.shape)
    return bytes([_TYPES.index(dtype), array.ndim]) + shape + head + _varint(len(data)) + data


def _decode_array(reader):
    dtype = reader.choice(_TYPES, "type")
    shape = [reader.varint() for _ in range(reader.count(_MAX_DIMENSIONS))]
    size = math.prod(shape)
    reader.claim(size * dtype.itemsize)
    layout = reader.choice((_PLAIN, _OFFSETS, _GAPS), "layout")
    if layout == _PLAIN:
        values = _from_planes(reader.payload(size * dtype.itemsize), dtype.itemsize).view(dtype)
    else:
        values = _from_integers(reader, layout, size, dtype)
    return values.reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _float_layout(values):
    return bytes([_PLAIN]), _planes(values.view(np.uint8).reshape(-1, values.dtype.itemsize))


def _integer_layouts(values):
    """Every way to lay out integers: (head, bytes)."""
    wide = values.astype(np.uint64)  # modulo 2^64, in which differences are exact for any type
    lowest = values.min() if values.size else values.dtype.type(0)
    yield _integers(_OFFSETS, wide, np.uint64(lowest.astype(np.uint64)))
    if values.size > 1 and np.all(values[1:] >= values[:-1]):
        yield _integers(_GAPS, np.diff(wide, prepend=wide[:1]), wide[0])


def _integers(layout, wide, base):
    """Integers from the smallest one on, or the gaps of ascending ones with the first one as the base."""
    differences = wide - base if layout == _OFFSETS else wide
    bits = max(1, int(differences.max()).bit_length()) if differences.size else 1
    planes = differences.astype("<u8").view(np.uint8).reshape(-1, 8)
    if bits <= 8:
        data = np.packbits(np.unpackbits(planes[:, :1], axis=1)[:, 8 - bits :]).tobytes()
    else:
        data = _planes(planes[:, : (bits + 7) // 8])
    return bytes([layout, bits]) + struct.pack("<Q", int(base)), data


def _from_integers(reader, layout, size, dtype):
    bits = reader.byte()
    if not 1 <= bits <= 8 * dtype.itemsize:
        raise CodecError(f"the message has integers of {bits} bits in an array of {dtype}.")
    (base,) = struct.unpack("<Q", reader.take(8))
    base, values = np.uint64(base), np.empty(reader.check_size(size), dtype)
    if bits <= 8:
        data = np.frombuffer(reader.payload((size * bits + 7) // 8), np.uint8)
    else:
        width = (bits + 7) // 8
        data = np.frombuffer(reader.payload(size * width), np.uint8).reshape(width, size)
    for start in range(0, size, _CHUNK):
        end = min(start + _CHUNK, size)
        wide = np.zeros([end - start, 8], np.uint8)
        if bits <= 8:
            found = np.unpackbits(data[start * bits // 8 : (end * bits + 7) // 8], count=(end - start) * bits)
            wide[:, 8 - bits :] = found.reshape(-1, bits)
            differences = np.packbits(wide, axis=1).reshape(-1).astype(np.uint64)
        else:
            wide[:, :width] = data[:, start:end].T
            differences = wide.reshape(-1).view("<u8")
        wide = base + (np.cumsum(differences, dtype=np.uint64) if layout == _GAPS else differences)
        base = wide[-1] if layout == _GAPS else base
        values[start:end] = wide.astype(dtype)
    return values


def _planes(rows):
    """Bytes [n, width] column by column: those of like significance are alike."""
    return np.ascontiguousarray(rows.T).tobytes()


def _from_planes(data, width):
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(width, -1).T).reshape(-1)


def _shortest(data):
    """The shortest of the data as they are, Huffman-coded, and also searched for repetitions."""
    shortest, coding = data, _STORED
    for strategy in (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY):
        coder = zlib.compressobj(6, zlib.DEFLATED, _WINDOW_BITS, 9, strategy)
        coded = coder.compress(data) + coder.flush()
        if len(coded) < len(shortest):
            shortest, coding = coded, _DEFLATED
    return coding, shortest


def _varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class _Reader:
    """Takes a body apart; every step checks that there is enough of it."""

    def __init__(self, body: bytes, max_bytes: int | None):
        self._body, self._position = body, 0
        self._max_bytes, self._claimed = max_bytes, 0

    @property
    def left(self):
        return len(self._body) - self._position

    def take(self, size):
        if size > self.left:
            raise CodecError(f"the message ends within an array: {size} bytes are wanted, {self.left} left.")
        self._position += size
        return self._body[self._position - size : self._position]

    def byte(self):
        return self.take(1)[0]

    def varint(self):
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number
            if shift > 63:
                raise CodecError("the message has a number beyond 64 bits.")

    def count(self, most):
        number = self.varint()
        if number > most:
            raise CodecError(f"the message says {number} where at most {most} can be.")
        return number

    def choice(self, choices, what):
        index = self.byte()
        if index >= len(choices):
            raise CodecError(f"the message has a {what} numbered {index}, and only {len(choices)} are known.")
        return choices[index]

    def claim(self, num_bytes):
        """Counts the bytes of an array that is about to be made."""
        self._claimed += num_bytes
        if self._max_bytes is not None and self._claimed > self._max_bytes:
            raise CodecError(f"the message holds more than the {self._max_bytes} bytes of max_bytes.")

    def check_size(self, size):
        """The size, if a deflated message of this length can hold it: DEFLATE shrinks 1032 times at most."""
        if size > 8 * 1032 * max(1, len(self._body)):
            raise CodecError(f"the message says it holds {size} values, more than fit into it.")
        return size

    def payload(self, size):
        """Bytes of known size, inflated if they are deflated."""
        coding = self.choice((_STORED, _DEFLATED), "coding")
        data = self.take(self.count(self.left))
        if coding == _DEFLATED:
            inflater = zlib.decompressobj(_WINDOW_BITS)
            self.check_size(size)
            data = inflater.decompress(data, size + 1)
            if not inflater.eof or inflater.unused_data:
                raise CodecError("the message has an array that does not end where it says.")
        if len(data) != size:
            raise CodecError(f"the message has {len(data)} bytes of an array that takes {size}.")
        return data
