"""Tables of what can be chosen by name, filled without importing it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from tff_tx.core.errors import UserError


class Registry:
    """Objects by name; those of this package are imported when they are first asked for.

    Iterating gives the names, in the order of registration.

    Args:
      kind: Names what is chosen in messages, such as "algorithm".
      entries: By name, "module:attribute".
    """

    def __init__(self, kind: str, entries: Mapping[str, str]):
        self.kind, self._entries = kind, dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, name: str) -> Any:
        """The object.

        Raises:
          UserError: If there is none of this name.
        """
        if name not in self._entries:
            raise UserError(f"{name!r} is not a known {self.kind}: choose one of {', '.join(self)}.")
        found = self._entries[name]
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            found = self._entries[name] = getattr(importlib.import_module(module), attribute)
        return found

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names and objects, imported."""
        return ((name, self[name]) for name in self)

    def register(self, name: str) -> Callable[[Any], Any]:
        """A decorator that adds an object under a name, for plug-ins.

        Raises:
          ValueError: If the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"there is a {self.kind} {name!r} already.")

        def add(value: Any) -> Any:
            self._entries[name] = value
            return value

        return add
