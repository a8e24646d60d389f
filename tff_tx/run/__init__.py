"""A run: assembling its parts, the round loop, what it writes, and evaluation."""
