"""Finds which rows parties have in common: `python -m programs.align --ids=bank.csv,shop.csv --id_columns=customer`.

Private set intersection: no identifier leaves its party in the clear. The result is a file for each party with its rows
in an order that all share, for programs.vertical. With --address this party listens and coordinates, with --coordinator
it dials the one that does; each names its own table alone.
"""

from __future__ import annotations

from programs import cli
from tff_tx.config.vertical import AlignConfig
from tff_tx.core import tls


def main(settings: cli.Settings) -> None:
    tls.require_tls_1_3()
    from tff_tx.federation.alignment.tables import align_tables, order_path

    cli.end_of_imports()
    own = settings[AlignConfig]
    for name, order in align_tables(settings.config, own).items():
        print(f"{name}: {len(order.rows)} rows in common, their order is in {order_path(own, name)}")


PROGRAM = cli.Program(main, AlignConfig, settings=["data.format", "data.delimiter", "data.encoding", "data.columns"])

if __name__ == "__main__":
    PROGRAM.run()
