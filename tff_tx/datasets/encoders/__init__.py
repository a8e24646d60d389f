"""Encoders: from records to the examples that are stored, one a kind of task."""
