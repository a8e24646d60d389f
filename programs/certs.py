"""Makes a certificate authority, and certificates for nodes of a Ray cluster or the parties of a federation.

`python -m programs.certs` adds a node: its directory is for that node's --ray_tls_dir. With --role=coordinator
it is the --federation_certificate of programs.coordinate, with --role=participant or keyholder the --certificate of
programs.participate or programs.keyholder. --action=renew, revoke and list are for what is there. The authority's key,
`ca.key`, stays where it is; whoever has it can admit anybody. Existing authorities do as well: a kit is ca.crt,
node.crt and node.key.
"""

from __future__ import annotations

from programs import cli
from tff_tx.config.tools import CertificatesConfig
from tff_tx.core.errors import UserError, setting


def main(settings: cli.Settings) -> None:
    from tff_tx.core import certificates

    own = settings[CertificatesConfig]
    if own.action in ("renew", "revoke") and "certificates.node" not in settings.given:
        raise UserError(f"{setting('certificates.node')} is missing: name the kit to {own.action}.")
    if own.action == "list":
        print("\n".join(certificates.describe(own.directory)))
    elif own.action == "revoke":
        certificates.revoke(own.directory, own.node)
        print(f"{own.node} is no longer a participant of {own.directory}.")
    elif own.action == "renew":
        print(certificates.renew(own.directory, own.node, own.days))
    else:
        print(certificates.make_node_certificate(own.directory, own.node, own.hosts, own.days, own.role))


PROGRAM = cli.Program(main, CertificatesConfig)

if __name__ == "__main__":
    PROGRAM.run()
