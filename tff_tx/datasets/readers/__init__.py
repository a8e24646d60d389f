"""Files of any format as one kind of records, a chunk at a time."""

from tff_tx.datasets.readers.files import FORMATS, file_source

__all__ = ["FORMATS", "file_source"]
