"""Files of any format as one kind of records, a chunk at a time."""
