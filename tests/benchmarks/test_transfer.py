"""The references beside federated transfer have its rows and no others."""

import pytest

from benchmarks import transfer
from tests.vertical import small


@pytest.mark.slow
def test_references_read_more_by_more_rows_in_common():
    found = {}
    for variant, fields in transfer.variants({"layers": 0}, transfer.TUMOURS, (0, 10, 200)):
        settings = small.settings(**fields)
        if settings.common_rows and settings.alignment_weight:
            found[variant] = transfer.references(small.config(), settings)
    few, many = found["10 rows in common"], found["200 rows in common"]
    assert few["chance"] == many["chance"] == 0.5
    assert 0.5 < few["ridge"] <= many["ridge"]
    assert 0.5 < few["labels"] <= many["labels"]
    assert many["labels"] > 0.95
