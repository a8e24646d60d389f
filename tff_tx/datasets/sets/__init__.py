"""Data sets by name, a file each."""

from tff_tx.datasets.readers.files import file_source
from tff_tx.datasets.sets.breast_cancer import BREAST_CANCER
from tff_tx.datasets.sets.data_set import DataSet
from tff_tx.datasets.sets.digits import DIGITS
from tff_tx.datasets.sets.stdlib import STDLIB
from tff_tx.datasets.sets.tff_sets import TFF_SETS

DATASETS: dict[str, DataSet] = {
    "stdlib": STDLIB,
    "digits": DIGITS,
    "breast_cancer": BREAST_CANCER,
    "file": DataSet(file_source),
    **TFF_SETS,
}
"""The data sets; "file" reads the files of the specification."""
