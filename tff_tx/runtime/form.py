"""A round as plain TensorFlow graphs: TFF's `MapReduceForm`, serialized."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import UserError, setting
from tff_tx.runtime import secure_form
from tff_tx.runtime.graphs import ImportedGraph
from tff_tx.runtime.internals import computations
from tff_tx.runtime.internals.computations import Computation, full_name, tensor_names
from tff_tx.runtime.internals.stacks import without_stacks
from tff_tx.runtime.rounds import Traffic

NON_TRAINABLE_STATE = "held"
"""Name, within the broadcast, of what clients have already."""
PERSONAL = "personal"
"""Name, within a contribution, of weights that stay with the client, see `client_states.PersonalWeights`."""
CLIENT_STATE = "client_state"
"""Name, within a contribution and the broadcast, of what else a client retains, see `client_states.RetainedState`."""
_RETAINED = {PERSONAL, CLIENT_STATE}
_PARTS = ("prepare", "work", "zero", "accumulate", "merge", "report", "update")
_WORKERS_PARTS = ("work", "zero", "accumulate", "merge")


@dataclasses.dataclass(frozen=True)
class RoundForm:
    """One round of a `LearningProcess`: what travels to wherever a part of it runs. It pickles.

    prepare: state -> what is broadcast. work: (client, broadcast) -> client's contribution. zero, accumulate, merge:
    sums of contributions. report: sum -> aggregate. update: (state, aggregate) -> (state, metrics). initialize: the
    first state.

    Attributes:
      computations: The parts by name, each a serialized `Computation`.
      moduli: Of a process that sums securely, the modulus of each leaf of a contribution, of whole numbers all: sums
        are taken modulo it. Of other processes none.
    """

    computations: Mapping[str, bytes]
    moduli: tuple[int, ...] = ()

    @classmethod
    @without_stacks()
    def of(cls, process: tff.learning.templates.LearningProcess) -> RoundForm:
        """Compiles a process.

        Raises:
          UserError: If a part of what clients send is summed securely, and another is not.
        """
        form = tff.backends.mapreduce.get_map_reduce_form_for_computation(process.next, _no_grappler())
        parts, moduli = {name: getattr(form, name) for name in _PARTS}, ()
        if form.securely_aggregates_tensors:
            moduli, summing = secure_form.parts_of(form)
            parts.update(summing)
        protos = {name: tff.framework.serialize_computation(part) for name, part in parts.items()}
        # All but its steps, which are optimized when first called, takes less time to run than to optimize; but its
        # loop must come out of the functions it is in.
        protos["work"] = computations.inlined(protos["work"])
        found = {name: proto.SerializeToString() for name, proto in protos.items()}
        return cls({**found, "initialize": cls.initial(process)}, moduli)

    @staticmethod
    @without_stacks()
    def initial(process: tff.learning.templates.LearningProcess) -> bytes:
        """Compiles `initialize` of a process alone."""
        compiled = tff.backends.mapreduce.get_state_initialization_computation(process.initialize, _no_grappler())
        return tff.framework.serialize_computation(compiled).SerializeToString()

    def for_workers(self) -> RoundForm:
        """The parts that run beside clients; of the server's, `initialize` holds the seed of private noise."""
        return RoundForm({name: self.computations[name] for name in _WORKERS_PARTS}, self.moduli)

    def workers_parts(self) -> list[tuple[str, Computation]]:
        """The parts that run beside clients, by name."""
        return [(name, self._proto(name)) for name in _WORKERS_PARTS]

    def graph(self, name: str) -> ImportedGraph:
        """A part, imported."""
        return ImportedGraph(self._proto(name), name)

    def type_signature(self, name: str) -> tff.FunctionType:
        """The type of a part, without the Python containers of the process."""
        return tff.framework.deserialize_computation(self._proto(name)).type_signature

    def _proto(self, name):
        return Computation.FromString(self.computations[name])

    @property
    def traffic(self) -> Traffic:
        """Bytes to and from a client, one that has nothing yet of what others hold already.

        What no round changes is not sent each time.
        """
        prepared, worked = self.type_signature("prepare"), self.type_signature("work")
        held, constant = [NON_TRAINABLE_STATE in path for path in paths(prepared.result)], self.constants()
        downloaded = [
            leaf
            for i, leaf in enumerate(leaf_types(prepared.result))
            if i not in constant and (held[i] or not any(held))
        ]
        leaves, where = leaf_types(worked.result), paths(worked.result)
        uploaded = sum(num_bytes(leaf) for leaf, path in zip(leaves, where) if not _RETAINED & {*path})
        if self.moduli:
            sizes = [int(np.prod(leaf.shape, dtype=np.int64)) for leaf in leaves]
            uploaded = sum(-(-size * (m - 1).bit_length() // 8) for size, m in zip(sizes, self.moduli))
        return Traffic(sum(map(num_bytes, downloaded)), uploaded)

    def constants(self) -> set[int]:
        """Those leaves of the broadcast that are the same in every round.

        They are leaves of the state which `update` gives back as they are, or what a client starts from that has
        retained nothing yet.
        """
        broadcast, updated = _passed_on(self._proto("prepare")), _passed_on(self._proto("update"))
        unchanged = {i for i, source in enumerate(updated) if source == i}
        places = enumerate(paths(self.type_signature("prepare").result))
        blank = {i for i, path in places if CLIENT_STATE in path}
        return blank | {i for i, source in enumerate(broadcast) if source in unchanged}

    def model_places(self) -> list[int] | None:
        """The leaves of the broadcast that are the model's weights; None if it has others in their place."""
        given = paths(self.type_signature("prepare").parameter)
        places = {source: i for i, source in enumerate(_passed_on(self._proto("prepare")))}
        found = [places.get(i) for i, path in enumerate(given) if path[0] == "global_model_weights"]
        return None if None in found else found


def _no_grappler() -> tf.compat.v1.ConfigProto:
    """By default TFF has every part optimized aggressively, each on its own."""
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


def _passed_on(computation: Computation) -> list[int | None]:
    """The leaf of the parameter that each leaf of the result is, unchanged; None where it is computed."""
    nodes = {node.name: node for node in computations.graph_def_of(computation).node}
    feeds = {full_name(name): i for i, name in enumerate(tensor_names(computation.tensorflow.parameter))}

    def source(tensor):
        while tensor not in feeds:
            node = nodes[tensor.split(":")[0]]
            if node.op not in ("Identity", "Snapshot"):
                return None
            tensor = full_name(node.input[0])
        return feeds[tensor]

    return [source(full_name(name)) for name in tensor_names(computation.tensorflow.result)]


def leaf_types(value_type: tff.Type) -> list[tff.Type]:
    """The types of the leaves."""
    if isinstance(value_type, tff.TensorType):
        return [value_type]
    return [leaf for _, t in tff.structure.iter_elements(value_type) for leaf in leaf_types(t)]


def num_bytes(value_type: tff.Type) -> int:
    """Bytes of the tensors in a value of static shape."""
    leaves = leaf_types(value_type)
    return sum(int(np.prod(t.shape, dtype=np.int64)) * np.dtype(t.dtype).itemsize for t in leaves)


def paths(value_type: tff.Type, path: tuple = ()) -> list[tuple]:
    """The names on the way to each leaf."""
    if not isinstance(value_type, tff.StructType):
        return [path]
    return [p for name, e in tff.structure.iter_elements(value_type) for p in paths(e, (*path, name))]


def flatten(value: Any, value_type: tff.Type) -> list[Any]:
    """The leaves of a Python value, in the order of its TFF type; a dataset may be given as its variant."""
    if isinstance(value_type, tff.TensorType):
        return [value]
    if isinstance(value_type, tff.SequenceType):
        return [value if tf.is_tensor(value) else tf.data.experimental.to_variant(value)]
    elements = enumerate(tff.structure.iter_elements(value_type))
    return [leaf for i, (name, element) in elements for leaf in flatten(_element(value, i, name), element)]


def unflatten(leaves: list[Any], value_type: tff.Type) -> Any:
    """The Python value of a TFF type with the given leaves: the inverse of `flatten`."""
    iterator = iter(leaves)

    def build(t):
        if isinstance(t, tff.TensorType):
            return next(iterator)
        return tff.structure.Struct([(n, build(e)) for n, e in tff.structure.iter_elements(t)])

    return computations.to_containers(build(value_type), value_type)


def _element(value, index, name):
    if name is None:
        return value[index]
    if isinstance(value, dict):
        return value[name]
    return getattr(value, name)


def only_update(contribution_type: tff.Type, weights_type: tff.Type, why: str, remedy: str) -> range:
    """Which leaves of a contribution are the update of the model, of the type of the trainable weights.

    What stays with the client is none, whatever its shape.

    Raises:
      UserError: If none or several may be: begins with `why` it is needed and has the `remedy`, how to do without.
    """
    found = list(_sites(contribution_type, _shape(weights_type), 0))
    if len(found) != 1:
        raise UserError(
            f"{why} the update that a client sends, and clients of this process send {len(found) or 'none'} of the "
            f"model's shape: {remedy}, or use an algorithm and an aggregator by which they send just one, as "
            f"{setting('algorithm.name')}=fed_avg."
        )
    return found[0]


def _sites(value_type, shape, start) -> Iterator[range]:
    """Yields the ranges of leaves of a value that have a shape; outermost first."""
    if _shape(value_type) == shape:
        yield range(start, start + len(paths(value_type)))
    elif isinstance(value_type, tff.StructType):
        for name, element in tff.structure.iter_elements(value_type):
            if name not in _RETAINED:
                yield from _sites(element, shape, start)
            start += len(paths(element))


def _shape(value_type):
    """A type without its names and Python containers."""
    if isinstance(value_type, tff.StructType):
        return tuple(_shape(element) for _, element in tff.structure.iter_elements(value_type))
    return value_type
