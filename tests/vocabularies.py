"""Clients whose words a vocabulary is learned from."""

import pandas as pd

COMMON = "the cat sat on the mat and the dog sat on the log"


def write_clients(path):
    """A file of twenty clients, who share a sentence and have a word of their own each; two classes."""
    rows = [
        {"client": f"c{n}", "text": f"{COMMON} {chr(97 + n) * 5}", "label": label} for n in range(20) for label in "ab"
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
