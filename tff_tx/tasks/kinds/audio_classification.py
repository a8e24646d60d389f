"""Audio classification: one class a recording, such as a word, a speaker or a noise."""

from __future__ import annotations

from tff_tx import datasets, models
from tff_tx.tasks.kind import Facts, TaskKind
from tff_tx.tasks.model_spec import ModelSpec
from tff_tx.tasks.recipe import RecordingRecipe


class RecordingTask(TaskKind):
    """A task on recordings."""

    def load_processor(self, model):
        """The checkpoint's, or one for a new model."""
        if model.pretrained is not None:
            return models.load_extractor(model.pretrained)
        return models.new_extractor(self.model_config(model), model.sampling_rate, model.max_seconds)

    def model_config(self, model: ModelSpec):
        """The configuration, without what the data decide."""
        return models.planned_config(self.auto_class, model.pretrained, model.architecture, model.config)

    def config_changes(self, facts: Facts):
        """What training needs, unless somebody asks for other things."""
        defaults = models.speech_defaults(self.model_config(facts.model))
        return {name: facts.model.config.get(name, value) for name, value in defaults.items()}

    def check_config(self, config, element_spec):
        models.check_speech_config(config)


class Recipe(RecordingRecipe):
    """One label a recording."""

    pads = {**RecordingRecipe.pads, "label": models.IGNORED}

    def batch(self, features, seed):
        return self.recordings(features), features["label"]


class AudioClassification(RecordingTask):
    """Recordings with one label each: cross-entropy and accuracy."""

    name = "audio_classification"
    title = "Audio classification"
    auto_class = "TFAutoModelForAudioClassification"
    predictor = "tff_tx.inference.speech:RecordingClassifier"
    needs_label_names = True
    capabilities = frozenset({"class_probabilities", "classes", "silos"})

    def encoder(self, facts):
        least = models.least_samples(self.model_config(facts.model))
        return datasets.AudioClassificationEncoder(facts.processor, facts.label_names, facts.model.max_seconds, least)

    def recipe(self, tokenizer, num_labels, config):
        return Recipe()

    def objective(self, label_names, model):
        return models.classification(self.name)


TASK = AudioClassification()
