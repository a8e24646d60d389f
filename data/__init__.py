"""One folder a data set: where it comes from, its licence and checksum, and how to prepare it."""
