"""Image classification: one class an image."""

from __future__ import annotations

from tff_tx import datasets, models
from tff_tx.core.errors import UserError, setting
from tff_tx.tasks.kind import TaskKind
from tff_tx.tasks.recipe import LabelledRecipe


class ImageClassification(TaskKind):
    """Images with one label each: cross-entropy, accuracy, F1 and recall over classes."""

    name = "image_classification"
    title = "Image classification"
    auto_class = "TFAutoModelForImageClassification"
    predictor = "tff_tx.inference.classes:ImageClassifier"
    needs_label_names = True
    needs_image_shape = True
    trigger_feature = "pixel_values"
    capabilities = frozenset({"activation_cache", "class_probabilities", "classes", "one_class", "silos"})

    def encoder(self, facts):
        converter = models.plain_processor(facts.image_shape) if facts.model.pretrained is None else None
        return datasets.ImageClassificationEncoder(facts.label_names, facts.image_shape, facts.processor, converter)

    def recipe(self, tokenizer, num_labels, config):
        return LabelledRecipe({"pixel_values": 0.0})

    def objective(self, label_names, model):
        return models.classification(self.name, len(label_names))

    def new_config(self, facts, train):
        channels, height, width = train.element_type_structure["pixel_values"].shape
        return {"num_channels": channels, "image_size": height if height == width else (height, width)}

    def check_config(self, config, element_spec):
        shape, wanted = tuple(element_spec["pixel_values"].shape), models.image_shape(config)
        if shape[0] != wanted[0] or not models.takes_image_size(config, shape[1:]):
            raise UserError(
                f"the images are {'x'.join(map(str, shape))} (channels, height, width), the model takes "
                f"{'x'.join(map(str, wanted))}: set num_channels and image_size in {setting('model.config')}."
            )


TASK = ImageClassification()
