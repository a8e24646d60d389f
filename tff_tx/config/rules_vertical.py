"""What the settings of a vertical federation forbid one another."""

from __future__ import annotations

import os

from tff_tx.config.vertical import CUTS, PartyConfig, VerticalConfig
from tff_tx.core.errors import UserError, setting


def check_vertical(config: VerticalConfig) -> dict[str, PartyConfig]:
    """The parties of a configuration that is in order.

    Raises:
      UserError: If not just one party has labels, a name cannot be that of a directory, a party knows nothing of a row
        or has two kinds of columns, a cut is none, or settings exclude each other.
    """
    parties, where = config.party_configs(), setting("vertical.parties")
    with_labels = [name for name, party in parties.items() if party.label is not None]
    if len(with_labels) != 1:
        found = f"{' and '.join(with_labels)} have labels" if with_labels else "no party has labels"
        raise UserError(f"{where}: {found}; give one party the `label`.")
    if bad := [name for name in parties if not name or name.startswith(".") or os.path.basename(name) != name]:
        raise UserError(f"{where}: {bad[0]!r} must be the name of a directory, without slashes or a dot in front.")
    for name, party in parties.items():
        _check_party(f"{where}: {name}", party, name in with_labels)
    _check_middle(config, parties, with_labels[0])
    if not any(party.kind for party in parties.values()):
        raise UserError(f"{where}: no party knows anything but labels: add one with columns, a text or an image.")
    if unknown := [name for name in config.without if name not in parties]:
        raise UserError(
            f"{setting('vertical.without')}={','.join(config.without)}: there is no party {unknown[0]}; there are "
            f"{', '.join(parties)}."
        )
    if with_labels[0] in config.without and parties[with_labels[0]].kind is None:
        raise UserError(f"{setting('vertical.without')}: {with_labels[0]} has no columns that could be missing.")
    if config.cut_size % config.heads:
        raise UserError(
            f"{setting('vertical.cut_size')}={config.cut_size} is no multiple of {setting('vertical.heads')}="
            f"{config.heads}: choose a multiple."
        )
    if config.top == "sum":
        _check_pooled(parties, "vertical.top", "summed")
    if config.top == "comparison":
        _check_comparison(config, parties)
    if config.secure_sum:
        _check_secure_sum(config, parties)
    if config.cut_compression != "none" and config.cut_dtype != "float32":
        raise UserError(
            f"{setting('vertical.cut_dtype')} has no effect with {setting('vertical.cut_compression')}: remove one."
        )
    for name, default in (("workset", 1), ("stale_similarity", None)):
        if config.local_updates == 1 and getattr(config, name) != default:
            raise UserError(
                f"{setting(f'vertical.{name}')} has no effect with {setting('vertical.local_updates')}=1: raise the "
                "latter, or remove the former."
            )
    _check_privacy(config)
    if config.weight_clip is not None:
        _check_private_steps(config, parties)
    if config.common_rows is not None:
        _check_transfer(config, parties, with_labels[0])
    return parties


def feature_parties(parties: dict[str, PartyConfig]) -> list[str]:
    """The parties with columns and without labels."""
    return [name for name, party in parties.items() if party.kind is not None and party.label is None]


def middle_of(parties: dict[str, PartyConfig]) -> str | None:
    """The party in the middle; None: there is none."""
    return next((name for name, party in parties.items() if party.middle), None)


def _check_middle(config: VerticalConfig, parties: dict[str, PartyConfig], label: str) -> None:
    where = f"{setting('vertical.parties')}: "
    middles = [name for name, party in parties.items() if party.middle]
    if not middles:
        return
    if len(middles) > 1:
        raise UserError(f"{where}{' and '.join(middles)} are in the middle; there is one such party.")
    if parties[middles[0]] != PartyConfig(middle=True):
        raise UserError(f"{where}{middles[0]} is in the middle, and has no columns, labels or checkpoint: remove them.")
    if parties[label].kind is not None:
        raise UserError(
            f"{where}{label} has columns, which a party in the middle reads of others: give them to a party of their "
            "own, which may be on the same machine."
        )
    if middles[0] in config.without:
        raise UserError(f"{setting('vertical.without')}: {middles[0]} has no columns that could be missing.")
    if config.stale_similarity is not None:
        raise UserError(
            f"{setting('vertical.stale_similarity')} weighs rows by what two parties exchanged, and {middles[0]} is "
            "between them: remove one."
        )


def _check_pooled(parties: dict[str, PartyConfig], name: str, what: str) -> None:
    if tokens := [party for party, fields in parties.items() if fields.cut == "tokens"]:
        raise UserError(
            f"{setting(name)}: {tokens[0]} has the cut tokens, and one token of a row is {what}: set it to pooled."
        )


def _check_comparison(config: VerticalConfig, parties: dict[str, PartyConfig]) -> None:
    _check_pooled(parties, "vertical.top", "compared")
    if config.common_rows is not None or sum(party.kind is not None for party in parties.values()) < 2:
        raise UserError(
            f"{setting('vertical.top')}=comparison compares rows of two parties with columns, and there is one at a "
            "time: choose another."
        )


def _check_secure_sum(config: VerticalConfig, parties: dict[str, PartyConfig]) -> None:
    name = setting("vertical.secure_sum")
    if config.top != "sum":
        raise UserError(f"{name} needs {setting('vertical.top')}=sum: the top model has no other use of a sum.")
    if len(feature_parties(parties)) < 2:
        raise UserError(f"{name} needs two parties without labels: the sum of one party hides nothing.")
    defaults = {"missing": 0.0, "without": (), "common_rows": None, "cut_dtype": "float32", "cut_compression": "none"}
    for other, default in defaults.items():
        if getattr(config, other) != default:
            raise UserError(
                f"{name} excludes {setting(f'vertical.{other}')}: masks cancel in sums of whole numbers of all parties."
            )


def _check_transfer(config: VerticalConfig, parties: dict[str, PartyConfig], label: str) -> None:
    name = setting("vertical.common_rows")
    if parties[label].kind is None or len(parties) < 2:
        raise UserError(f"{name}: {label} needs columns of its own and another party, for both to be aligned.")
    _check_pooled(parties, "vertical.common_rows", "aligned")
    for other, default in {"missing": 0.0, "stale_similarity": None}.items():
        if getattr(config, other) != default:
            raise UserError(f"{name} has no effect with {setting(f'vertical.{other}')}: remove one of them.")
    if config.without:
        raise UserError(f"{name}: the other parties predict alone: remove {setting('vertical.without')}.")


def _check_party(where: str, party: PartyConfig, has_labels: bool) -> None:
    if party.middle:
        return
    kinds = [bool(party.numeric or party.categorical), bool(party.text), bool(party.image)]
    if sum(kinds) > 1 or not (any(kinds) or has_labels):
        raise UserError(f"{where} must have one of columns (numeric, categorical), a text or an image.")
    if party.cut is not None and (party.cut not in CUTS or party.kind is None):
        raise UserError(f"{where} has no cut {party.cut!r}: must be one of {', '.join(CUTS)}, of a party with columns.")
    if party.pretrained and party.kind == "table" and not (party.is_keras and not party.categorical):
        raise UserError(
            f"{where} has a checkpoint, and tables have none: remove pretrained, or name a Keras model (NAME.keras) of "
            "numeric columns alone."
        )
    if party.is_keras and (party.kind == "text" or party.config):
        raise UserError(f"{where} has a Keras model: it reads numbers or an image, and has no config.")
    if party.kind == "text" and not party.pretrained:
        raise UserError(f"{where} has texts and no checkpoint to read them with: name one as pretrained.")
    if party.trainable == "none" and not party.pretrained:
        raise UserError(f"{where} has trainable=none and no checkpoint: random weights must be trained.")
    if party.image and (len(party.image) != 2 or not 0 <= party.image[0] < party.image[1]):
        raise UserError(
            f"{where} has image={list(party.image)}: must be the first column of pixels and the one behind the last."
        )


def _check_private_steps(config: VerticalConfig, parties: dict[str, PartyConfig]) -> None:
    """A row is in one step of an epoch, and nothing but that, with noise, follows from it."""
    for other, default in {"local_updates": 1, "common_rows": None}.items():
        if getattr(config, other) != default:
            raise UserError(
                f"{setting('vertical.weight_clip')} excludes {setting(f'vertical.{other}')}, which uses a row in more "
                "steps than one of an epoch: remove one of them."
            )
    for name, party in parties.items() if config.weight_noise else ():
        needed = [*(["means", "deviations"] if party.numeric else ()), *(["categories"] if party.categorical else ())]
        if missing := [field for field in needed if field not in party.config]:
            raise UserError(
                f"{setting('vertical.weight_noise')}: {name} would find out {' and '.join(missing)} of its columns "
                f"from its rows, which no noise hides: give public ones in the config of {name} in "
                f"{setting('vertical.parties')}."
            )


def _check_privacy(config: VerticalConfig) -> None:
    for noise, clip in (("cut_noise", "cut_clip"), ("weight_noise", "weight_clip")):
        if getattr(config, noise) and getattr(config, clip) is None:
            needed = setting(f"vertical.{clip}")
            raise UserError(f"{setting(f'vertical.{noise}')} needs {needed}: noise hides what is bounded.")
    if config.gradient_defence == "marvell" and config.kind == "regression":
        raise UserError(f"{setting('vertical.gradient_defence')}=marvell hides two classes, not numbers: choose noise.")
    if config.label_epsilon is not None and config.kind == "regression":
        raise UserError(f"{setting('vertical.label_epsilon')} randomizes classes, not numbers: remove it.")
