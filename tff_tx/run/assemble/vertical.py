"""The parties of a vertical federation, from a configuration."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tff_tx import datasets, models, vertical
from tff_tx.config import RunConfig
from tff_tx.config.rules_vertical import feature_parties, middle_of
from tff_tx.config.vertical import PartyConfig, VerticalConfig
from tff_tx.core.errors import UserError, setting


@dataclasses.dataclass(frozen=True)
class LoadedParty:
    """A party's own part of what is trained, before the parties know one another.

    Attributes:
      name: Its name.
      party: Its configuration.
      facts: What it found out about its columns, and the classes of its labels.
      data: Its rows.
      bottom: Its bottom; None: it has labels alone.
      schedule: The batches.
      alignment: Tag of the order of its rows.
      places: int64, where each of its rows stands in its table, from 0.
    """

    name: str
    party: PartyConfig
    facts: Mapping[str, Any]
    data: vertical.PartyData
    bottom: vertical.Half | None
    schedule: vertical.Schedule
    alignment: str
    places: np.ndarray


def load_party(
    config: RunConfig,
    settings: VerticalConfig,
    name: str,
    party: PartyConfig,
    facts: Mapping[str, Any] | None = None,
) -> LoadedParty:
    """Reads a party's rows and makes its bottom, of nothing that others know.

    Args:
      config: Data and seed.
      settings: Of the federation.
      name: The party's name.
      party: Its configuration.
      facts: What it found out when it was trained; None: it is to be trained, and finds out.

    Raises:
      UserError: If its data or checkpoint cannot be read.
    """
    spec = datasets.DataSpec.of(config)
    found = vertical.read_rows(spec, name, party, with_further=settings.common_rows is not None)
    rows = found.rows
    schedule = _schedule(config, settings, found.common, len(rows) - found.common)
    if settings.common_rows is not None or settings.top in ("sum", "comparison"):
        party = dataclasses.replace(party, cut="pooled")  # one token of a row is aligned, summed or compared
    if facts is None:
        _check_rows(settings, name, schedule)
        training = [rows[place] for place in schedule.known(party.label is not None)]
        facts = {"columns": vertical.find_facts(party, training)}
        if party.label is not None and settings.kind == "classification":
            facts["classes"] = vertical.label_names(spec, party, training)
    data = vertical.party_data(party, rows, facts["columns"], facts.get("classes"), settings.max_length)
    bottom = None
    if party.kind is not None:
        bottom = _bottom(config, settings, name, party, facts["columns"], data)
    return LoadedParty(name, party, facts, data, bottom, schedule, found.alignment, found.places)


def _check_rows(settings: VerticalConfig, name: str, schedule: vertical.Schedule) -> None:
    training = schedule.rows - schedule.held_out
    if training < 1:
        raise UserError(
            f"{setting('vertical.parties')}: {name} has {schedule.rows} rows, of which "
            f"{setting('vertical.test_share')}={settings.test_share:g} holds out {schedule.held_out}: training needs "
            "more."
        )
    if training < (settings.common_rows or 0):
        raise UserError(
            f"{setting('vertical.common_rows')}={settings.common_rows}: there are {training} rows in common to train "
            "on: lower it."
        )


def _bottom(config, settings, name, party, facts, data) -> vertical.Half:
    # Tokens of bottoms that start alike can be compared from the first step.
    seed = (config.run.seed + zlib.crc32(b"" if settings.top == "comparison" else name.encode())) % 2**31
    made = vertical.build_bottom(party, settings, facts, data.inputs, seed)
    tokens = made({name: array[:1] for name, array in data.inputs.items()}).shape[1]
    frozen = "features" in data.inputs
    functional = models.functional_model(
        made,
        vertical.cut_objective(tokens, settings.cut_size),
        vertical.input_spec(data.inputs),
        trainable="all" if frozen else party.trainable,
    )
    return vertical.Half(functional, settings.optimizer, settings.learning_rate)


def feature_party(
    settings: VerticalConfig, loaded: LoadedParty, noise_key: int | None = None, kit: Sequence[Any] = ()
) -> vertical.FeatureParty:
    """A party without labels, to answer the one with them; `kit`: its identity and authority, over a connection."""
    masks = None
    if settings.secure_sum:
        masks = vertical.PartyMasks(loaded.name, feature_parties(settings.party_configs()), *kit)
    of = loaded.bottom, loaded.schedule, settings, loaded.alignment, noise_key, masks
    return vertical.FeatureParty(loaded.name, loaded.data.inputs, *of)


def middle_party(config: RunConfig, settings: VerticalConfig, name: str, ask: vertical.Ask) -> vertical.MiddleParty:
    """The party in the middle, which reaches those with columns by `ask`."""

    def build(tokens):
        made = vertical.build_middle(settings, tokens, config.run.seed)
        objective = vertical.cut_objective(1, settings.cut_size)
        functional = models.functional_model(made, objective, vertical.top_spec(settings, tokens))
        return vertical.Half(functional, settings.optimizer, settings.learning_rate)

    names, schedule_of = feature_parties(settings.party_configs()), functools.partial(_schedule, config, settings)
    return vertical.MiddleParty(name, names, ask, build, schedule_of, settings)


def _schedule(config, settings, rows, further=0) -> vertical.Schedule:
    of = settings.batch_size, settings.test_share, settings.common_rows, further
    return vertical.Schedule(config.run.seed, rows, *of)


def label_party(
    config: RunConfig,
    settings: VerticalConfig,
    loaded: LoadedParty,
    tokens: Mapping[str, int],
    noise_key: int | None = None,
) -> vertical.LabelParty:
    """The party with the labels and the top model.

    Args:
      config: The seed.
      settings: Of the federation.
      loaded: Its own part.
      tokens: Number of tokens of a row by party, of all with a bottom.
      noise_key: Seed of its noise and of randomized labels, its own secret; None: follows the seed, in simulation.
    """
    classes = loaded.facts.get("classes")
    outputs = 1 if classes is None else len(classes)
    objective = models.regression("vertical") if classes is None else models.classification("vertical", outputs)
    kind, of_top = vertical.LabelParty, tokens
    if middle_of(settings.party_configs()) is not None:
        # Rows miss parties where these are known, and what is left of the top is a hidden layer.
        settings = dataclasses.replace(settings, top="concatenation", missing=0.0, secure_sum=False)
    if settings.common_rows is not None:
        kind, of_top = vertical.TransferParty, {loaded.name: 1}
    top = models.functional_model(
        vertical.build_top(settings, of_top, outputs, config.run.seed), objective, vertical.top_spec(settings, of_top)
    )
    return kind(
        loaded.name,
        list(tokens),
        loaded.data.inputs,
        training_labels(settings, loaded, config.run.seed if noise_key is None else noise_key),
        vertical.Half(top, settings.optimizer, settings.learning_rate),
        loaded.bottom,
        loaded.schedule,
        settings,
        vertical.gradient_defence(settings, outputs),
        noise_key,
    )


def training_labels(settings: VerticalConfig, loaded: LoadedParty, seed: int) -> np.ndarray:
    """The labels as they are trained on, with label differential privacy randomized by a seed."""
    labels = loaded.data.labels
    if settings.label_epsilon is None:
        return labels
    return vertical.randomized_labels(labels, len(loaded.facts["classes"]), settings.label_epsilon, seed)


def tokens_of(parties: Mapping[str, PartyConfig], label: LoadedParty, others: Mapping[str, int]) -> dict[str, int]:
    """Number of tokens of a row by party, in the parties' order, of all with a bottom."""
    own = {} if label.bottom is None else {label.name: label.bottom.model.objective.output_spec.shape[1]}
    found = {**others, **own}
    return {name: found[name] for name in parties if name in found}
