"""The secure sums of a `MapReduceForm`: their moduli, and the same sums in plain arithmetic.

Clients' work gives whole numbers in four parts: those that are summed in the clear, and those that are summed securely,
by their bits, by their maximum, or modulo a number. What is summed here are the numbers themselves, modulo M, which a
protocol may have masked.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import UserError
from tff_tx.runtime.graphs import ImportedGraph

MOST_CLIENTS = 2**14
"""Of a round that sums securely: for so many, moduli are large enough."""
MOST_MODULUS = 2**62
_SLOTS = ("secure_sum_bitwidth", "secure_sum_max_input", "secure_modular_sum_modulus")


def parts_of(form: Any) -> tuple[tuple[int, ...], dict[str, tff.Computation]]:
    """The moduli of a form's secure sums, by leaf, and its zero, accumulate, merge and report.

    b bits need the modulus 2^(b + ceil(log2 n)), a maximum m one above n m, for n = `MOST_CLIENTS`.

    Raises:
      UserError: If some of what clients send is summed in the clear, or a modulus is above 2^62.
    """
    plain, *secure = (t for _, t in tff.structure.iter_elements(form.work.type_signature.result))
    if tff.structure.flatten(plain):
        raise UserError(
            "a part of what clients send would be summed in the clear beside secure sums: "
            f"{plain.compact_representation()}."
        )
    to_modulus: tuple[Callable[[int], int], ...] = (
        lambda bits: 2**bits * MOST_CLIENTS,
        lambda most: 2 ** (most * MOST_CLIENTS).bit_length(),
        lambda modulus: modulus,
    )
    found = []
    for name, convert in zip(_SLOTS, to_modulus):
        sizes = ImportedGraph(tff.framework.serialize_computation(getattr(form, name)), name)
        found += [convert(int(size)) for size in sizes.whole()()] if sizes.fetches else []
    types = [leaf for part in secure for leaf in tff.structure.flatten(part)]
    # A sum is of the type of its terms, which wraps around by itself.
    moduli = tuple(min(m, 2**32) if t.dtype == np.int32 else m for m, t in zip(found, types))
    if max(moduli) > MOST_MODULUS:
        raise UserError(f"a secure sum modulo {max(moduli)} is above 2^62, the most that there is.")
    return moduli, _summing(moduli, types)


def _summing(moduli, types):
    specs = [tf.TensorSpec(t.shape, tf.int64) for t in types]
    total_type, term_type = tff.to_type([tff.TensorType(np.int64, t.shape) for t in types]), tff.to_type(list(types))

    @tff.tensorflow.computation
    def zero():
        return [tf.zeros(spec.shape, tf.int64) for spec in specs]

    @tff.tensorflow.computation(total_type, term_type)
    def accumulate(total, terms):
        return [tf.math.floormod(a + tf.cast(b, tf.int64), m) for a, b, m in zip(total, terms, moduli)]

    @tff.tensorflow.computation(total_type, total_type)
    def merge(a, b):
        return [tf.math.floormod(x + y, m) for x, y, m in zip(a, b, moduli)]

    @tff.tensorflow.computation(total_type)
    def report(total):
        return [tf.cast(leaf, t.dtype) for leaf, t in zip(total, types)]

    return {"zero": zero, "accumulate": accumulate, "merge": merge, "report": report}
