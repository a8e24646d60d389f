"""Settings of federations whose parties know different things of the same people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tff_tx.config.aggregation import NONE, QUANTIZERS
from tff_tx.config.algorithm import OPTIMIZERS
from tff_tx.config.option import POSITIVE, Section, option
from tff_tx.core.errors import UserError, setting

NORMALIZATIONS = ("text", "digits", "exact")
MATCHES = ("ecdh", "keyed")
CUTS = ("tokens", "pooled")
CUT_DTYPES = ("float32", "float16", "bfloat16")
GRADIENT_DEFENCES = ("none", "max_norm", "marvell", "noise")


@dataclasses.dataclass(frozen=True)
class AlignConfig(Section, name="align"):
    """Private set intersection."""

    ids: tuple[str, ...] = option(
        (), "Tables with identifiers, a party each; over a connection this party's own alone."
    )
    id_columns: tuple[str, ...] = option((), "Columns that together identify a row.")
    normalize: str = option(
        "text",
        "Normalization of identifiers: NFKC, case folding and single blanks (text); only the digits of that (digits); "
        "or none (exact).",
        choices=NORMALIZATIONS,
    )
    match: str = option(
        "ecdh",
        "How identifiers are compared: masked by a secret of each party, or as HMAC-SHA256 under {align.key_file}, "
        "whose holders can try any identifier.",
        choices=MATCHES,
    )
    key_file: str | None = option(None, "File with the secret that the parties share, with {align.match}=keyed.")
    output_dir: str = option("aligned", "Directory for the orders of rows, a file NAME.json for each party.")
    most_identifiers: int | None = option(
        None, "More identifiers of all others together are rejected; default: ten times this party's own.", least=1
    )
    threads: int | None = option(None, "Threads; default: one per processor.", least=1, most=1024)
    address: str | None = option(None, "Address to listen at, host:port: this party coordinates.", is_address=True)
    peers: tuple[str, ...] = option((), "Names of the other parties' certificates, for {align.address}.")
    participants: str | None = option(
        None, "List of participants that programs.certs wrote; default: the one beside the kit of {align.certificate}."
    )
    coordinator: str | None = option(None, "Address of the party that coordinates, host:port.", is_address=True)
    certificate: str | None = option(None, "Directory of this party's kit (programs.certs).")


@dataclasses.dataclass(frozen=True)
class PartyConfig:
    """A party of a vertical federation: what it knows of each row, and its part of the model.

    Attributes:
      files: Its own tables; empty: the data of the section `data`, which all such parties share.
      order: Order of its rows, of programs.align; None: as they stand.
      numeric: Columns of numbers.
      categorical: Columns of categories.
      text: A column of texts.
      image: Columns of pixels of an image, from and to (exclusive).
      label: A column; the party that has it computes the loss.
      middle: Whether it has nothing of a row, and computes the top's body for the party with the labels.
      pretrained: Checkpoint of the bottom model, of a text or an image; or NAME.keras, a Keras model of numbers or an
        image.
      trainable: What is trained of the bottom, as `model.trainable`; "none": it is frozen and computed once.
      cut: What crosses the cut for a row: all its "tokens", or their mean ("pooled").
      config: Fields of the bottom's configuration.
    """

    files: tuple[str, ...] = ()
    order: str | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    text: str | None = None
    image: tuple[int, ...] = ()
    label: str | None = None
    middle: bool = False
    pretrained: str | None = None
    trainable: str = "all"
    cut: str | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> str | None:
        """What its bottom reads: "table", "text" or "image"; None: it has labels alone, or is the middle."""
        if self.numeric or self.categorical:
            return "table"
        return "text" if self.text else "image" if self.image else None

    @property
    def is_keras(self) -> bool:
        """Whether the bottom is a Keras model's file."""
        return (self.pretrained or "").endswith(".keras")

    @property
    def pools(self) -> bool:
        """Whether one token a row crosses the cut."""
        return self.cut == "pooled" or (self.cut is None and self.kind == "text")


HALVES = {"left": {"image": [0, 4], "label": "label"}, "right": {"image": [4, 8]}}
"""The parties of the embedded example: halves of handwritten digits, and the digit with the left one."""


@dataclasses.dataclass(frozen=True)
class VerticalConfig(Section, name="vertical"):
    """Vertical federation."""

    parties: dict[str, Any] = option(
        {},
        'Parties by name, as JSON: {"bank": {"numeric": ["age"], "label": "default"}, "shop": {"text": "notes"}}; '
        "further fields are files, order, categorical, image, middle, pretrained, trainable, cut and config. Default: "
        "halves of the embedded digits.",
    )
    kind: str = option("classification", "What is learned of the label.", choices=("classification", "regression"))
    top: str = option(
        "transformer",
        "Top model: a Transformer over the tokens of all parties, with a mask for who is missing; or dense layers over "
        "their concatenation, over the sum of a token of each, or, for pairs such as two sentences, over products and "
        "absolute differences of every two parties' tokens (comparison), whose bottoms start from one seed.",
        choices=("transformer", "concatenation", "sum", "comparison"),
    )
    secure_sum: bool = option(
        False, "With {vertical.top}=sum: the party with the labels receives the sum of the others' activations alone."
    )
    common_rows: int | None = option(
        None,
        "Federated transfer: the party with the labels knows all training rows, the others but so many of them and the "
        "held-out rows, which they predict with its head; with orders of rows, also rows that these do not have.",
        least=1,
    )
    alignment_weight: float = option(
        1.0,
        "With {vertical.common_rows}: gamma, of the loss on the rows in common: the head's on the other party's "
        "encodings, and the distance between both parties' encodings.",
        least=0.0,
    )
    cut_size: int = option(32, "Width of the tokens that cross the cut.", least=1, most=2**16)
    cut_dtype: str = option("float32", "dtype in which activations and gradients cross the cut.", choices=CUT_DTYPES)
    cut_compression: str = option(
        NONE,
        "Quantization of activations and gradients that cross the cut, as of {compression.upload}, and entropy coding.",
        choices=(NONE, *(f"{name}{bits}" for name in QUANTIZERS for bits in range(1, 9))),
    )
    local_updates: int = option(
        1,
        "Updates of each party for a message: further ones repeat the step with the activations or gradients that came "
        "(FedBCD).",
        least=1,
        most=1000,
    )
    workset: int = option(
        1,
        "With {vertical.local_updates} above 1: last batches whose activations and gradients are cached, and which "
        "local updates use in turn (W of CELU-VFL); 1: the last one alone.",
        least=1,
        most=1000,
    )
    stale_similarity: float | None = option(
        None,
        "With {vertical.local_updates} above 1: weighs rows in local updates by the cosine of their activations or "
        "gradients with those that were exchanged, and leaves out rows below this one (cos xi of CELU-VFL).",
        least=0.0,
        below=1.0,
    )
    late: bool = option(
        False,
        "Activations of the next batch are sent while the party with the labels computes, so that gradients come a "
        "batch late.",
    )
    layers: int = option(1, "Layers of a bottom without checkpoint.", least=0, most=1000)
    top_layers: int = option(1, "Layers of the top model.", least=0, most=1000)
    heads: int = option(4, "Attention heads.", least=1, most=1000)
    dropout: float = option(0.0, "Dropout rate of the bottoms without checkpoint and of the top.", least=0.0, below=1.0)
    max_length: int = option(64, "Maximum number of tokens of a text.", least=2, most=2**20)
    epochs: int = option(10, "Passes over the common rows.", flag="epochs", least=1, may_change=True)
    batch_size: int = option(64, "Rows per batch.", least=1, most=2**20)
    learning_rate: float = option(1e-3, "Learning rate, of each party's optimizer.", **POSITIVE)
    optimizer: str = option("adam", "Optimizer, of each party.", choices=OPTIMIZERS)
    test_share: float = option(0.2, "Share of the common rows that are held out.", above=0.0, below=1.0)
    missing: float = option(
        0.0,
        "Probability that a row goes without a feature party in training, so that it can at prediction.",
        least=0.0,
        below=1.0,
    )
    without: tuple[str, ...] = option((), "Parties that are missing in evaluation and prediction.", may_change=True)
    gradient_defence: str = option(
        "none",
        "What hides labels in the gradients that feature parties get: noise along each gradient up to the longest of "
        "the batch (max_norm, Li et al. 2021), noise that best hides two classes for its power (marvell, ibid.), or "
        "clipping and noise.",
        choices=GRADIENT_DEFENCES,
    )
    gradient_clip: float = option(
        1.0, "With {vertical.gradient_defence}=noise: L2 norm of a row's gradient.", above=0.0
    )
    gradient_noise: float = option(
        1.0, "With {vertical.gradient_defence}=noise: noise multiplier, in units of the clip.", least=0.0
    )
    gradient_power: float = option(
        4.0,
        "With {vertical.gradient_defence}=marvell: power of the noise, in units of the squared distance between the "
        "two classes' mean gradients.",
        above=0.0,
    )
    cut_clip: float | None = option(None, "L2 norm to which what a party sends of a row is clipped.", above=0.0)
    cut_noise: float = option(0.0, "Noise multiplier of what a party sends of a row, in units of the clip.", least=0.0)
    weight_clip: float | None = option(
        None,
        "L2 norm to which the gradient of each row in a party's weights is clipped (DP-SGD); each party computes its "
        "rows one by one.",
        above=0.0,
    )
    weight_noise: float = option(
        0.0,
        "Noise multiplier of the sum of the gradients that {vertical.weight_clip} clips, which together with "
        "{vertical.cut_noise} and {vertical.gradient_defence}=noise gives training rows differential privacy.",
        least=0.0,
    )
    label_epsilon: float | None = option(
        None, "Label differential privacy: labels are randomized once, with this epsilon.", above=0.0
    )

    def party_configs(self) -> dict[str, PartyConfig]:
        """The parties, by name in their order.

        Raises:
          UserError: If one has no such field, or fields of the wrong type.
        """
        return {name: _party(name, fields) for name, fields in (self.parties or HALVES).items()}


def _party(name: str, fields: Any) -> PartyConfig:
    where = f"{setting('vertical.parties')}: {name}"
    known = {field.name: field for field in dataclasses.fields(PartyConfig)}
    if not isinstance(fields, Mapping) or set(fields) - set(known):
        found = sorted(set(fields) - set(known))[0] if isinstance(fields, Mapping) else fields
        raise UserError(f"{where} has {found!r}: its fields are {', '.join(known)}.")
    found = {}
    for field, value in fields.items():
        if field in ("files", "numeric", "categorical", "image"):
            value = (value,) if isinstance(value, str) else tuple(value)
        elif field == "middle":
            if not isinstance(value, bool):
                raise UserError(f"{where} has middle={value!r}: must be true or false.")
        elif field != "config" and not isinstance(value, str):
            raise UserError(f"{where} has {field}={value!r}: must be a text.")
        found[field] = value
    return PartyConfig(**found)


@dataclasses.dataclass(frozen=True)
class VerticalActionConfig(Section, name="vertical_run"):
    """Action on a vertical federation."""

    action: str = option(
        "train",
        "Trains; evaluates the trained model on held-out rows, as without a party; or predicts all rows of the "
        "parties' tables.",
        choices=("train", "evaluate", "predict"),
    )
    output: str | None = option(None, "Table of predictions to write; default: predictions.csv in the run directory.")
    party: str | None = option(None, "Party that this process is, with others elsewhere; default: all, in simulation.")
    address: str | None = option(
        None, "Address to listen at, host:port, of the party with the labels or in the middle.", is_address=True
    )
    participants: str | None = option(
        None, "List of participants that programs.certs wrote; default: the one beside {vertical_run.certificate}."
    )
    coordinator: str | None = option(
        None,
        "Address of the party that listens, host:port: the one with the labels; for parties with columns that in the "
        "middle, if there is one.",
        is_address=True,
    )
    certificate: str | None = option(None, "Directory of this party's kit (programs.certs).")
    middle_certificate: str | None = option(
        None, "Directory of a coordinator's kit, with which the party in the middle listens for those with columns."
    )


SECTIONS = (AlignConfig, VerticalConfig, VerticalActionConfig)
