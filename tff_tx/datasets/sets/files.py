"""The files of the specification, in any format."""

from tff_tx.datasets.data_set import DataSet
from tff_tx.datasets.readers.files import file_source

FILES = DataSet(file_source)
