"""Messages of mistakes: names of settings are found whatever stands around them."""

from tff_tx.core.errors import UserError, setting


def test_a_place_in_front_leaves_settings_settings():
    told = UserError(f"{setting('data.files')}: there is no file 'a.csv'").within("silo west")
    assert str(told) == "silo west: data.files: there is no file 'a.csv'"
    assert told.describe(lambda path: "--data") == "silo west: --data: there is no file 'a.csv'"
    assert str(told.within()) == str(told)
