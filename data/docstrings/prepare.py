"""Writes functions of the Python standard library: `python -m data.docstrings.prepare --output=docstrings.jsonl`."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterator

from tff_tx import datasets

CHECKSUMS: dict[str, str] = {}  # there is nothing to download
_LONGEST = 100  # characters of a signature


def functions() -> Iterator[dict[str, str]]:
    """Functions and methods with a docstring: the `module`, the `prompt`, which is a signature, and its first line."""
    spec = datasets.DataSpec("stdlib", num_clients=None)
    for chunk in datasets.read_records(spec, "text"):
        for module, source in zip(chunk["client"], chunk["text"]):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (docstring := ast.get_docstring(node)):
                    signature = f"def {node.name}({ast.unparse(node.args)}):"
                    if len(signature) > _LONGEST:
                        continue
                    yield {"module": module, "prompt": signature, "answer": docstring.splitlines()[0]}


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--output", required=True, help="Where to write JSON lines.")
    with open(parser.parse_args().output, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(function) + "\n" for function in functions())


if __name__ == "__main__":
    main()
