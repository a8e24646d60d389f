"""Search spaces and budgets of a study, as they are written."""

import pytest

from tff_tx.config import FIELDS, RunConfig
from tff_tx.config.budget import Budget
from tff_tx.config.option import Range
from tff_tx.config.space import Space
from tff_tx.core.errors import UserError

FLAGS = {field.flag: path for path, field in FIELDS.items()}


@pytest.mark.parametrize("field", [f for f in FIELDS.values() if f.option.search is not None], ids=lambda f: f.path)
def test_what_is_searched_by_default_is_allowed(field):
    search = field.option.search
    values = (search.low, search.high) if isinstance(search, Range) else search
    assert all(field.option.problem(field.parse(value)) is None for value in values)
    assert not isinstance(search, Range) or search.low > 0 or not search.log


def test_a_space_is_written_by_flags_and_fills_in_what_settings_know_of_themselves(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(
        "client_learning_rate = {low = 1e-3, high = 0.1}\n"
        'client_optimizer = ["sgd", "adam"]\nserver_momentum = true\nlora_rank = [[4], [8]]\n'
    )
    space = Space.load(str(path))
    assert space.domains == {
        "client.learning_rate": Range(1e-3, 0.1, log=True),
        "client.optimizer": ("sgd", "adam"),
        "server.momentum": Range(0.0, 0.9),
        "lora.rank": ((4,), (8,)),
    }
    assert Space.of(space.to_json()) == space


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "names no setting"),
        ("space.toml", "'space.toml': must be a dictionary"),
        ([("client_learning_rate", True)], "must be a dictionary"),
        ({"learning_rat": True}, "there is no setting 'learning_rat'"),
        ({"seed": [1, 2]}, "seed cannot be searched"),
        ({"client_learning_rate": {"low": -1.0}}, "client_learning_rate = -1.0: .*at least 0"),
        ({"client_learning_rate": {"low": 0.1, "high": 0.01}}, "low must be below high"),
        ({"client_learning_rate": {"low": 0.0, "log": True}}, "low above 0"),
        ({"client_learning_rate": {"from": 0.1}}, "must be true, a list"),
        ({"client_learning_rate": {"log": 1}}, "'log': 1}: must be true, a list"),
        ({"client_optimizer": {"low": 1}}, "must be true or a list of values\\.$"),
        ({"batch_size": {"low": 8, "high": 64}}, "must be true or a list of values\\.$"),
        ({"client_optimizer": ["sgd", "lion"]}, "client_optimizer = lion: must be one of"),
        ({"batch_size": [8, 8]}, "a value twice"),
        ({"batch_size": ["many"]}, "is no value of it"),
    ],
)
def test_a_wrong_space_is_a_sentence(given, sentence):
    with pytest.raises(UserError, match=sentence):
        Space.of(given)


def test_a_space_that_cannot_be_read_is_a_sentence(tmp_path):
    (tmp_path / "space.toml").write_text("= 1")
    for name in ("space.toml", "none.toml"):
        with pytest.raises(UserError, match="cannot be read"):
            Space.load(str(tmp_path / name))


def test_the_default_space_has_what_has_an_effect():
    plain = Space.default(RunConfig())
    assert plain.domains["client.learning_rate"] == Range(2e-3 / 30, 2e-3 * 30, log=True)
    assert "client.momentum" not in plain.domains
    more = RunConfig.of({"client.optimizer": "sgd", "algorithm.name": "fed_prox", "model.trainable": "lora"})
    assert {"client.momentum", "algorithm.proximal_strength", "lora.alpha"} <= set(Space.default(more).domains)


@pytest.mark.parametrize(
    ("given", "settings", "sentence"),
    [
        ({"client_momentum": True}, {}, "client_momentum has no effect with client.optimizer=adam"),
        ({"client_optimizer": ["adam", "yogi"], "client_momentum": True}, {}, "client_momentum has no effect"),
        ({"lora_alpha": True}, {}, "lora_alpha has no effect with model.trainable=all"),
        (
            {"client_learning_rate": True},
            {"algorithm.name": "fed_ex", "algorithm.client_choices": {"client_learning_rate": [0.01, 0.1]}},
            "client_learning_rate has no effect with algorithm.client_choices=",
        ),
    ],
)
def test_what_could_not_have_an_effect_is_not_searched(given, settings, sentence):
    """All arms would be the same."""
    config = RunConfig.of(settings)
    with pytest.raises(UserError, match=sentence):
        Space.of(given).check(config)
    assert FLAGS[next(iter(reversed(given)))] not in Space.default(config).domains


def test_what_has_an_effect_by_a_choice_of_the_space_is_searched():
    Space.of({"client_optimizer": ["adam", "sgd"], "client_momentum": True}).check(RunConfig())
    around = RunConfig.of({"algorithm.name": "fed_ex"})
    Space.default(around).check(around)
    assert "client.learning_rate" in Space.default(around).domains


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("400 rounds", Budget(400.0, "rounds")),
        (400, Budget(400.0, "rounds")),
        ("5000 client-seconds", Budget(5000.0, "client_seconds")),
        ("1.5 GB", Budget(1.5e9, "bytes")),
        ("2h", Budget(7200.0, "seconds")),
        ("2.5E-1 MB", Budget(250_000.0, "bytes")),
        ("1e+2", Budget(100.0, "rounds")),
    ],
)
def test_budgets(text, budget):
    assert Budget.of(text) == budget


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (Budget(12.0), "12 rounds"),
        (Budget(150_000.0, "bytes"), "0.15 MB"),
        (Budget(5432.1, "client_seconds"), "5,432.1 client-seconds"),
        (Budget(60.0, "seconds"), "60 s"),
    ],
)
def test_a_budget_is_written_as_it_may_be_given(budget, text):
    assert str(budget) == text
    assert Budget.of(text.replace(",", "")) == budget


@pytest.mark.parametrize("text", ["", "many", "-1 rounds", "0", "3 parsecs", "1.2.3 GB"])
def test_wrong_budgets_are_a_sentence(text):
    with pytest.raises(UserError, match=r"tune\.budget=.*must be a number above 0 and a unit"):
        Budget.of(text)
