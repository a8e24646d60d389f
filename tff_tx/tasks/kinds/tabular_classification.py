"""Classification of the rows of a table, with numbers and categories in its columns."""

from __future__ import annotations

from tff_tx import datasets, models
from tff_tx.core.errors import UserError, setting
from tff_tx.tasks.kind import TaskKind
from tff_tx.tasks.recipe import LabelledRecipe


class TabularClassification(TaskKind):
    """Rows with one label each: cross-entropy, accuracy, F1 and recall over classes."""

    name = "tabular_classification"
    title = "Tabular classification"
    auto_class = "tff_tx.models.zoo.ft_transformer:TFAutoModelForTables"
    predictor = "tff_tx.inference.records:RowClassifier"
    needs_label_names = True
    needs_features = True
    architecture = "ft_transformer"
    capabilities = frozenset({"activation_cache", "class_probabilities", "classes"})

    def encoder(self, facts):
        found, pretrained = facts.features, facts.model.pretrained
        if pretrained is None:
            return datasets.TabularClassificationEncoder(facts.label_names, found)
        # A trained model already knows the values of categories.
        trained_on = columns_of(models.read_config(self.auto_class, pretrained))
        if (found.numeric, found.categorical) != (trained_on.numeric, trained_on.categorical):
            raise UserError(
                f"{setting('data.numeric_columns')}={','.join(found.numeric)} and "
                f"{setting('data.categorical_columns')}={','.join(found.categorical)} are not what the model in "
                f"{pretrained} was trained on: give {','.join(trained_on.numeric) or 'none'} and "
                f"{','.join(trained_on.categorical) or 'none'}, in that order."
            )
        return datasets.TabularClassificationEncoder(facts.label_names, trained_on)

    def recipe(self, tokenizer, num_labels, config):
        return LabelledRecipe({"numbers": 0.0, "categories": 0})

    def objective(self, label_names, model):
        return models.classification(self.name, len(label_names))

    def new_config(self, facts, train):
        columns = facts.features
        fields = {
            "numeric_features": columns.numeric,
            "categorical_features": columns.categorical,
            "categories": columns.categories,
        }
        if columns.numeric and facts.model.standardize:
            mean, deviation = datasets.federated_mean_and_deviation(train)
            fields.update(means=mean.tolist(), deviations=deviation.tolist())
        return fields

    def check_config(self, config, element_spec):
        for name, features in (("numbers", config.numeric_features), ("categories", config.categories)):
            there = element_spec[name].shape[0] if name in element_spec else 0
            if there != len(features):
                raise UserError(
                    f"the rows have {there} {name}, the model takes {len(features)}: name the columns that it was made "
                    f"for with {setting('data.numeric_columns')} and {setting('data.categorical_columns')}."
                )


def columns_of(config) -> datasets.Features:
    """The columns that a model was made for."""
    return datasets.Features(
        tuple(config.numeric_features), tuple(config.categorical_features), tuple(map(tuple, config.categories))
    )


TASK = TabularClassification()
