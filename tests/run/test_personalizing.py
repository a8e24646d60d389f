"""Which way to a client's own model an evaluation takes."""

import pytest

from tff_tx.core.errors import UserError
from tff_tx.run import personalizing


def test_settings_choose_a_way_and_none_is_chosen_without():
    assert personalizing.chosen({"personalize_epochs": 0, "neighbors": 0}, True) is None
    for name, way in personalizing.WAYS.items():
        assert personalizing.chosen({name: 3}, False) is way


def test_a_further_way_is_a_row_and_is_rejected_beside_others(monkeypatch):
    way = personalizing.Way(lambda asked, own_fn: (asked.task, own_fn), "it begins anew")
    monkeypatch.setitem(personalizing.WAYS, "neighbors", way)
    assert personalizing.chosen({"neighbors": 2}, False) is way
    with pytest.raises(UserError, match="with a run whose clients have models of their own: it begins anew"):
        personalizing.chosen({"neighbors": 2}, True)
    with pytest.raises(UserError, match="with evaluate.personalize_epochs: it begins anew"):
        personalizing.chosen({"personalize_epochs": 1, "neighbors": 2}, False)
    monkeypatch.setitem(personalizing.WAYS, "neighbors", personalizing.Way(way.build))
    assert personalizing.chosen({"neighbors": 2}, True) is not way
