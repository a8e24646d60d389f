"""Pictures become the same numbers in training, evaluation, prediction and in transformers' own pipeline."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import transformers
from PIL import Image

from tests import tiny
from tff_tx import datasets, inference, models, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError
from tff_tx.tasks.create import create_task

AUTO = "TFAutoModelForImageClassification"
NAMES = ("no", "yes")
NORMAL = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
PROCESSORS = {
    "vit": transformers.ViTImageProcessor(size={"height": 8, "width": 8}, **NORMAL),
    "convnext": transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875, **NORMAL),
    "mobilevit": transformers.MobileViTImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}
    ),
}
CONFIGS = {
    "vit": {**tiny.VIT, "image_size": 8, "initializer_range": 0.5},
    "convnext": dict(hidden_sizes=[8] * 4, depths=[1] * 4),
    "resnet": dict(embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4),
}


def checkpoint(directory, architecture, processor):
    names = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
    model = models.from_config(AUTO, architecture, {**CONFIGS[architecture], **names}, seed=1)
    models.save_pretrained(model, str(directory), processor)
    return str(directory)


def pictures(directory, shape=(12, 10, 3)):
    """A table with pictures, and files of the same."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    pixels[1::2] //= 2
    paths = [str(directory / f"{number}.png") for number in range(4)]
    for path, one in zip(paths, pixels):
        Image.fromarray(one.squeeze()).save(path)
    table = pd.DataFrame({"pixels": [one.tolist() for one in pixels], "label": ["no", "yes"] * 2, "user": list("aabb")})
    table.to_parquet(directory / "pictures.parquet")
    data = datasets.DataSpec(
        "file",
        files=(str(directory / "pictures.parquet"),),
        client_column="user",
        test_fraction=0.0,
        cache_dir=str(directory / "cache"),
    )
    return data, paths


def load(data, path, **model):
    spec = tasks.ModelSpec(pretrained=path, **model)
    return create_task("image_classification", data, spec, ClientConfig(batch_size=4), progress=False)


def stored(task):
    clients = task.train
    examples = [e for c in clients.client_ids for e in clients.create_tf_dataset_for_client(c).as_numpy_iterator()]
    return np.stack([example["pixel_values"] for example in examples])


@pytest.mark.parametrize("kind", PROCESSORS)
def test_pixels_are_those_of_the_processor(kind):
    found = models.ImageProcessor(PROCESSORS[kind], 3)
    pixels = np.random.default_rng(1).integers(0, 256, (12, 10, 3), np.uint8)
    expected = PROCESSORS[kind](Image.fromarray(pixels), return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(found(pixels.transpose(2, 0, 1)), expected)
    np.testing.assert_array_equal(found((pixels.transpose(2, 0, 1) / 255).astype(np.float32)), expected)
    assert expected.shape == found.shape
    for mode in ("L", "RGBA"):
        picture = Image.fromarray(pixels).convert(mode)
        expected = PROCESSORS[kind](picture.convert("RGB"), return_tensors="np")["pixel_values"][0]
        array = np.asarray(picture).reshape(12, 10, -1).transpose(2, 0, 1)
        np.testing.assert_array_equal(found(array), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_without_a_processor_the_saved_one_says_what_was_done(dtype):
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    pixels = every if dtype == np.uint8 else every.astype(np.float32) / 300
    rows = pd.DataFrame({"pixels": [pixels], "label": ["x"], "where": ["line 1"]})
    (example,) = datasets.ImageClassificationEncoder(["x"], (1, 16, 16)).encode(rows)
    np.testing.assert_array_equal(models.plain_processor((1, 16, 16))(pixels), example["pixel_values"])


def test_a_checkpoint_of_another_size_resizes_its_pictures_too(tmp_path):
    path = checkpoint(tmp_path, "vit", PROCESSORS["vit"])
    found = models.load_processor(AUTO, path, {"image_size": [4, 6], "num_channels": 1})
    assert found.shape == (1, 4, 6)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(UserError, match="the image processor of model.pretrained=.* cannot be loaded"):
        models.load_processor(AUTO, path)


@pytest.mark.parametrize("architecture", ["vit", pytest.param("resnet", marks=pytest.mark.slow)])
def test_training_evaluation_prediction_and_the_pipeline_see_the_same(architecture, tmp_path):
    """Of a model with its processor; ResNet has no image_size, and BatchNormalization below its head."""
    processor = PROCESSORS["vit" if architecture == "vit" else "convnext"]
    path = checkpoint(tmp_path / "start", architecture, processor)
    data, files = pictures(tmp_path)
    task = load(data, path, trainable="head")
    expected = processor([Image.open(path) for path in files], return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(stored(task), expected)
    saved = str(tmp_path / "model")
    models.save_pretrained(task.model.keras_model, saved, task.processor)
    how = {"framework": "tf", "device": -1, "torch_dtype": None}  # transformers 4.53 looks the last up in torch
    pipe = transformers.pipeline("image-classification", model=saved, top_k=2, **how)
    predictor = inference.build_predictor("image_classification", saved, tasks.ModelSpec(pretrained=saved))
    rows = predictor.predict(predictor.read(files=list(data.files)))
    for row, one in zip(rows, predictor.predict(predictor.read(files=files)), strict=True):
        assert row["probabilities"] == one["probabilities"]
    x = {"pixel_values": tf.constant(expected), models.SEED: tf.constant([1, 2], tf.int64)}
    outputs = [task.model.predict_on_batch(task.model.initial_weights, x, training=False)]
    if architecture == "resnet":
        outputs.append(task.model.predict_on_batch(task.model.initial_weights, x, training=True))
    for evaluated in outputs:
        for row, own, theirs in zip(
            tf.nn.softmax(evaluated).numpy(), predictor.predict(predictor.read(files=files)), pipe(files)
        ):
            assert own["probabilities"] == pytest.approx(dict(zip(NAMES, row)), abs=1e-4)
            assert own["probabilities"] == pytest.approx({one["label"]: one["score"] for one in theirs}, abs=1e-4)


def test_a_model_of_one_image_size_says_so(tmp_path):
    """Of a processor that does not fit, and of pictures of a checkpoint without one."""
    data, _ = pictures(tmp_path)
    path = checkpoint(tmp_path / "start", "vit", PROCESSORS["convnext"])
    with pytest.raises(UserError, match="the images are 3x32x32 .* the model takes 3x8x8: set .* image_size"):
        load(data, path)
    (tmp_path / "start" / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"line 1|row 1.*the image has the shape \[12, 10, 3\]|the images are 3x12x10"):
        load(data, path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("segformer", dict(depths=[1] * 4, hidden_sizes=[4] * 4, mlp_ratios=[1] * 4, num_attention_heads=[1] * 4)),
        ("cvt", dict(embed_dim=[8] * 3, num_heads=[1] * 3, depth=[1, 2, 3])),
        ("regnet", dict(embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, groups_width=8)),
        ("convnextv2", dict(hidden_sizes=[8] * 4, depths=[1] * 4)),
    ],
)
def test_backbones_of_every_kind_are_built_of_their_configuration(architecture, config, tmp_path):
    """With the size of images that the data have where the architecture has one."""
    model = models.from_config(AUTO, architecture, config, defaults={"num_channels": 3, "image_size": 32})
    models.save_pretrained(model, str(tmp_path))
    pixels = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    expected = model({"pixel_values": pixels}, training=False).logits
    again = models.from_pretrained(AUTO, str(tmp_path))
    np.testing.assert_array_equal(again({"pixel_values": pixels}, training=False).logits, expected)


def test_patches_larger_than_the_pictures_are_a_sentence(tmp_path):
    data, _ = pictures(tmp_path, (12, 12, 3))
    with pytest.raises(UserError, match="vit does not fit the data .Negative dimension size .*16 from 12"):
        load(data, None, architecture="vit", config={**tiny.VIT, "patch_size": 16})
