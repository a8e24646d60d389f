"""Forecasting: the next values of a series."""

from __future__ import annotations

import collections

import tensorflow as tf

from tff_tx import datasets, models
from tff_tx.core.errors import UserError, setting
from tff_tx.tasks.kind import SEVERAL, TaskKind
from tff_tx.tasks.recipe import Recipe

_FIELDS = {"past_values": "context_length", "future_values": "prediction_length"}
"""By feature, the field of the model's configuration with its length."""


class Windows(Recipe):
    """A window of a series: what to forecast from, and the last value followed by what was to come.

    Labels begin with the deviation of the series, where examples have it.
    """

    pads = {"past_values": 0.0, "future_values": 0.0, "deviation": 1.0}

    def inputs(self, element_spec):
        return collections.OrderedDict(past_values=tf.TensorSpec([None, *element_spec["past_values"].shape]))

    def batch(self, features, seed):
        past = features["past_values"]
        labels = tf.concat([past[:, -1:], features["future_values"]], axis=1)
        if "deviation" in features:
            labels = tf.concat([features["deviation"][:, tf.newaxis], labels], axis=1)
        return collections.OrderedDict(past_values=past), labels


class Forecasting(TaskKind):
    """Windows of series: the mean squared error."""

    name = "forecasting"
    title = "Forecasting"
    example = f"a window of a series, and no record: windows overlap, and {SEVERAL}"
    auto_class = "tff_tx.models.zoo.patch_transformer:TFAutoModelForForecasting"
    predictor = "tff_tx.inference.records:Forecaster"
    architecture = "patch_transformer"
    capabilities = frozenset({"activation_cache", "in_time", "silos"})

    def encoder(self, facts):
        model = facts.model
        if not facts.data.number_names:
            raise UserError(
                f"{setting('task.kind')}={self.name} needs {setting('data.numeric_columns')}, the columns of the "
                f"series that are to be forecast: name them, or set {setting('data.client_per_column')}."
            )
        if model.context_length < 1:
            raise UserError(
                f"{setting('task.context_length')}={model.context_length} is less than 1: give the steps to look at."
            )
        if not model.horizons or min(model.horizons) < 1:
            raise UserError(
                f"{setting('task.horizons')}={','.join(map(str, model.horizons))}: a forecast is 1 step ahead or "
                f"more; give for "
                "instance 3,6,12."
            )
        standardizes = model.series_protocol == "standardized"
        return datasets.ForecastingEncoder(model.context_length, max(model.horizons), standardizes)

    def recipe(self, tokenizer, num_labels, config):
        return Windows()

    def objective(self, label_names, model):
        return models.forecasting(model.horizons, model.series_protocol == "standardized")

    def new_config(self, facts, train):
        return {field: train.element_type_structure[name].shape[0] for name, field in _FIELDS.items()}

    def check_config(self, config, element_spec):
        for name, field in _FIELDS.items():
            if element_spec[name].shape != (getattr(config, field),):
                raise UserError(
                    f"the windows have {element_spec[name].shape[0]} {name}, the model has "
                    f"{field}={getattr(config, field)}: set {setting('task.context_length')} and "
                    f"{setting('task.horizons')} as the model has them."
                )


TASK = Forecasting()
