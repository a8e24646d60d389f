"""The model card says what the base model's card says of the licence."""

import pytest

from tff_tx.run import model_card


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n", "apache-2.0"),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
        ("license:\n- mit\n", None),
        (None, None),
    ],
)
def test_the_licence_is_that_of_the_base_model(tmp_path, card, licence):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert model_card._licence(str(tmp_path)) == licence


def test_a_model_without_a_base_has_no_licence_of_one():
    assert model_card._licence(None) is None


def test_a_base_models_card_of_any_bytes_is_read(tmp_path):
    (tmp_path / "README.md").write_bytes(b"---\nauthor: Andr\xe9\nlicense: mit\n---\n" + b"\xff" * (2 << 20))
    assert model_card._licence(str(tmp_path)) == "mit"
