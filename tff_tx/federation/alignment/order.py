"""The result of an intersection at a party: an order of its rows, without any identifier."""

from __future__ import annotations

import dataclasses
import json

from tff_tx.core import files
from tff_tx.core.errors import UserError, setting

_VERSION = 1


@dataclasses.dataclass(frozen=True)
class RowOrder:
    """Rows of a table in the order that all parties share.

    Attributes:
      alignment: What the orders of one intersection have in common, a hash of what is public to none but the parties.
      rows: Positions of the common rows in the party's table, from 0, in the common order.
      table: SHA-256 of the table that the positions are of; "" before it is known.
    """

    alignment: str
    rows: tuple[int, ...]
    table: str = ""

    def save(self, path: str) -> None:
        """Writes a JSON file.

        Raises:
          UserError: If it cannot be written.
        """
        said = {"version": _VERSION, **dataclasses.asdict(self)}
        files.write_text(path, json.dumps(said) + "\n", setting("align.output_dir"))

    @classmethod
    def load(cls, path: str) -> RowOrder:
        """Reads a file of `save`.

        Raises:
          UserError: If it is none.
        """
        try:
            said = files.parse_json(path)
            if said["version"] != _VERSION:
                raise ValueError(f"it is of version {said['version']}, and this is {_VERSION}")
            return cls(str(said["alignment"]), tuple(map(int, said["rows"])), str(said["table"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is no order of rows ({error}): make one with `python -m programs.align`."
            ) from None
