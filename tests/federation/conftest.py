"""A hub and the kits of two participants, for the tests of what is between them."""

import pytest

from tests.federation import parties


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    return parties.make_kits(tmp_path_factory.mktemp("certs"), parties.PAIR)


@pytest.fixture
def hub(kits):
    with parties.hub(kits, parties.PAIR) as found:
        yield found
