"""What the privacy calculator prints, as numbers."""

import re


def found(pattern, text):
    """What the first group of a pattern matches."""
    return re.search(pattern, text).group(1)


def table(name, text):
    """The rows of a table, by its first column."""
    lines = text.split(f"{name}  epsilon\n")[1].split("\n\n")[0].splitlines()
    return {float(a.replace(",", "")): float(b.replace(",", "")) for a, b in (line.split() for line in lines)}
