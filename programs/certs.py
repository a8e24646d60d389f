"""Makes a certificate authority for tests, and certificates for the nodes of a Ray cluster: `python -m programs.certs`.

Each call adds a node: its directory is for that node's --ray_tls_dir. The authority's key, `ca.key`, stays where it is;
whoever has it can admit anybody. Existing authorities do as well: Ray reads ca.crt, node.crt and node.key.
"""

from __future__ import annotations

import dataclasses

from programs import cli
from tff_tx.config.tools import CertificatesConfig


def main(settings: cli.Settings) -> None:
    from tff_tx.core import certificates

    print(certificates.make_node_certificate(**dataclasses.asdict(settings[CertificatesConfig])))


PROGRAM = cli.Program(main, CertificatesConfig)

if __name__ == "__main__":
    PROGRAM.run()
