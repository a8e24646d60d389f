"""Secure sums: a server learns the sum of clients' vectors modulo M, and nothing else of them."""

from tff_tx.core.threat import Threat
from tff_tx.federation.secure_sums.client import Client
from tff_tx.federation.secure_sums.errors import MalformedMessageError, SecureSumError
from tff_tx.federation.secure_sums.graphs import Topology, topology
from tff_tx.federation.secure_sums.identities import Authority, Identity
from tff_tx.federation.secure_sums.messages import decode, encode
from tff_tx.federation.secure_sums.server import DONE, PHASES, Server
from tff_tx.federation.secure_sums.terms import Terms, Vector
