"""Analysis of runs: attacks, audits, the contribution of clients, federated vocabularies."""
