"""What a notebook composes a run of: each function names some settings by the field's terms.

    FedAvg(client=Adam(1e-3, schedule="cosine"), epochs=1, batch_size=16)

is the settings `algorithm.name`, `client.optimizer`, `client.learning_rate` and so on; there is nothing here that
settings do not say. Where a function takes `**settings`, these are named as flags are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tff_tx.config import FIELDS
from tff_tx.config.registries import DATASETS
from tff_tx.core.errors import UserError, setting

_BY_FLAG = {field.flag: path for path, field in FIELDS.items()}
PARTS = ("algorithm", "privacy", "compression", "devices", "attack", "engine", "data", "model")
"""Names by which a trainer takes parts; without one, None."""


class Part(dict):
    """Values of settings, by path."""

    def __or__(self, other: Mapping) -> Part:
        return Part({**self, **other})


def settings(**by_flag: Any) -> Part:
    """Any settings, named as flags are; a `Part` among them stands for its own settings, and None for the default.

    Raises:
      UserError: If there is no such setting.
    """
    found = Part()
    for name, value in by_flag.items():
        if isinstance(value, Part):
            found |= value
        elif value is None and name in PARTS:
            continue
        elif name not in _BY_FLAG:
            raise UserError(f"there is no setting {name!r}; see the list of settings in the documentation.")
        elif value is not None:
            found[_BY_FLAG[name]] = value
    return found


def section(name: str, /, **values: Any) -> Part:
    """Settings of one section, by their names in it; None stands for the default."""
    return Part({f"{name}.{field}": value for field, value in values.items() if value is not None})


def Data(source: str | list = "stdlib", clients: Part | None = None, validation: Any = None, test: Any = None, **more):
    """Data of a name, such as "digits", or from files.

    Args:
      source: Name of a data set, or files, folders or globs.
      clients: Partition, such as `Dirichlet(100, alpha=1.0)`; None: the data's own clients, or iid.
      validation: Size of the validation split (a fraction, or a number from 1 on), or files.
      test: The same for the test split.
      **more: Further settings, such as `client_column`.
    """
    if isinstance(source, str) and source in DATASETS:
        part = section("data", dataset=source)
    else:
        part = section("data", dataset="file", files=_files(source))
    for name, value in (("validation", validation), ("test", test)):
        is_size = isinstance(value, (int, float))
        part |= section("data", **{f"{name}_{'fraction' if is_size else 'files'}": value if is_size else _files(value)})
    return part | (clients or {}) | settings(**more)


def _files(value):
    if isinstance(value, (str, os.PathLike)):
        return (os.fspath(value),)
    if value is None:
        return None
    try:
        if not isinstance(value, Mapping) and not hasattr(value, "to_csv"):  # these are iterables of columns' names
            return tuple(map(os.fspath, value))
    except TypeError:
        pass
    raise UserError(
        f"{setting('data.files')}: a {type(value).__name__} is no file, nor a list of them: write it to one, as by "
        "`to_parquet` or `to_csv` of a data frame, and name that."
    )


def Dirichlet(num_clients: int, alpha: float = 1.0):
    """Label distributions of clients drawn from a Dirichlet distribution (Hsu et al. 2019)."""
    return section("data", partition="dirichlet", num_clients=num_clients, dirichlet_alpha=alpha)


def Iid(num_clients: int):
    """Examples dealt out at random, evenly."""
    return section("data", partition="iid", num_clients=num_clients)


def Shards(num_clients: int, shards: int = 2):
    """Shards of the examples sorted by label (McMahan et al. 2017)."""
    return section("data", partition="shards", num_clients=num_clients, shards_per_client=shards)


def PowerLaw(num_clients: int, exponent: float = 1.5):
    """Client sizes that follow a power law."""
    return section("data", partition="power_law", num_clients=num_clients, power_law_exponent=exponent)


def ByColumn(column: str, num_clients: int | None = None):
    """The clients that a column of the data names."""
    return section("data", partition="column", client_column=column, num_clients=num_clients)


def Model(pretrained: str | None = None, *, architecture=None, config=None, tokenizer=None, trainable="all", **more):
    """A checkpoint, or a model with random weights; `trainable` may be `LoRA(...)`."""
    part = section("model", pretrained=pretrained, architecture=architecture, config=config, tokenizer=tokenizer)
    chosen = trainable if isinstance(trainable, Part) else section("model", trainable=trainable)
    return part | chosen | settings(**more)


def LoRA(rank: int | tuple = 8, **more: Any):
    """Low-rank adapters (Hu et al. 2022); `more` are alpha, targets, dropout, freeze_a and aggregation."""
    ranks = (rank,) if isinstance(rank, int) else tuple(rank)
    return section("model", trainable="lora") | section("lora", rank=ranks, **more)


class Optimizer(dict):
    """An optimizer of clients or of the server: its settings by their names in the sections `client` and `server`."""


def SGD(learning_rate: float, **more: Any):
    """SGD; `more` are momentum, schedule, and for clients clip_norm."""
    return Optimizer(optimizer="sgd", learning_rate=learning_rate, **more)


def Adam(learning_rate: float, **more: Any):
    """Adam; `more` are schedule, for clients clip_norm, for the server epsilon."""
    return Optimizer(optimizer="adam", learning_rate=learning_rate, **more)


def AdamW(learning_rate: float, **more: Any):
    """AdamW for clients; `more` are weight_decay, schedule and clip_norm."""
    return Optimizer(optimizer="adamw", learning_rate=learning_rate, **more)


def Adagrad(learning_rate: float, **more: Any):
    """Adagrad; `more` are schedule, and for the server epsilon."""
    return Optimizer(optimizer="adagrad", learning_rate=learning_rate, **more)


def Yogi(learning_rate: float, **more: Any):
    """Yogi; `more` are schedule, and for the server epsilon."""
    return Optimizer(optimizer="yogi", learning_rate=learning_rate, **more)


def Algorithm(name: str, client=None, server=None, epochs=None, steps=None, batch_size=None, **more):
    """An algorithm by its name, a plug-in's too.

    Args:
      name: Of the registry of algorithms.
      client: The clients' `Optimizer`.
      server: The server's.
      epochs: Local epochs a round.
      steps: Local batches a round, instead.
      batch_size: Examples a batch.
      **more: Further settings, named as flags are.
    """
    part = section("algorithm", name=name) | section("client", epochs=epochs, steps=steps, batch_size=batch_size)
    return part | section("client", **(client or {})) | section("server", **(server or {})) | settings(**more)


def FedAvg(**parts: Any):
    """FedAvg (McMahan et al. 2017), and with another server optimizer FedOpt (Reddi et al. 2021)."""
    return Algorithm("fed_avg", **parts)


def FedProx(mu: float = 0.1, **parts: Any):
    """FedProx (Li et al. 2020)."""
    return Algorithm("fed_prox", proximal_strength=mu, **parts)


def FedGKD(gamma: float = 0.2, temperature: float | None = None, models: int | None = None, **parts: Any):
    """FedGKD (Yao et al. 2021)."""
    details = {"distillation_temperature": temperature, "distillation_models": models}
    return Algorithm("fed_gkd", distillation_weight=gamma, **details, **parts)


def FedRep(personal_epochs: int = 1, **parts: Any):
    """FedRep (Collins et al. 2021), of a `Model(..., personal="head")`."""
    return Algorithm("fed_rep", personal_epochs=personal_epochs, **parts)


def FedBABU(personal_epochs: int = 1, **parts: Any):
    """FedBABU (Oh et al. 2022), of a `Model(..., personal="head")`."""
    return Algorithm("fed_babu", personal_epochs=personal_epochs, **parts)


def FedRecon(personal_epochs: int = 1, **parts: Any):
    """FedRecon (Singhal et al. 2021), of a `Model(..., personal="head")`."""
    return Algorithm("fed_recon", personal_epochs=personal_epochs, **parts)


def Ditto(strength: float | None = None, **parts: Any):
    """Ditto (Li et al. 2021)."""
    return Algorithm("ditto", personal_strength=strength, **parts)


def MRMTL(strength: float | None = None, **parts: Any):
    """MR-MTL (Liu et al. 2022)."""
    return Algorithm("mr_mtl", personal_strength=strength, **parts)


def PFedMe(strength: float | None = None, steps: int | None = None, **parts: Any):
    """Personalized FedAvg by Moreau envelopes, pFedMe (Dinh et al. 2020)."""
    return Algorithm("p_fed_me", personal_strength=strength, moreau_steps=steps, **parts)


def APFL(mixing: float | None = None, mixing_rate: float | None = None, **parts: Any):
    """APFL (Deng et al. 2020)."""
    return Algorithm("apfl", mixing=mixing, mixing_rate=mixing_rate, **parts)


def FedDPA(mixing: float | None = None, personal_epochs: int | None = None, after: bool = False, **parts: Any):
    """FedDPA (Yang et al. 2024), of `Model(..., trainable=LoRA())`: FedDPA-T, or with `after` FedDPA-F."""
    details = {"mixing": mixing, "personal_epochs": personal_epochs}
    return Algorithm("fed_dpa_f" if after else "fed_dpa_t", **details, **parts)


def IFCA(clusters: int = 2, **parts: Any):
    """IFCA (Ghosh et al. 2020), or HypCluster (Mansour et al. 2020)."""
    return Algorithm("ifca", clusters=clusters, **parts)


def Scaffold(**parts: Any):
    """SCAFFOLD (Karimireddy et al. 2020)."""
    return Algorithm("scaffold", **parts)


def FedDyn(alpha: float = 0.1, **parts: Any):
    """FedDyn (Acar et al. 2021)."""
    return Algorithm("fed_dyn", dynamic_strength=alpha, **parts)


def FedNova(**parts: Any):
    """FedNova (Wang et al. 2020)."""
    return Algorithm("fed_nova", **parts)


def Reptile(**parts: Any):
    """Reptile (Nichol, Achiam and Schulman 2018); its epsilon is the server's rate."""
    return Algorithm("reptile", **parts)


def PerFedAvg(alpha: float = 0.01, hessian_step: float | None = None, **parts: Any):
    """Per-FedAvg (Fallah, Mokhtari and Ozdaglar 2020): first order, or Hessian-free with a `hessian_step`."""
    return Algorithm("per_fed_avg", inner_learning_rate=alpha, hessian_step=hessian_step, **parts)


def FedSGD(**parts: Any):
    """FedSGD (McMahan et al. 2017)."""
    return Algorithm("fed_sgd", **parts)


def MimeLite(**parts: Any):
    """Mime Lite (Karimireddy et al. 2021)."""
    return Algorithm("mime_lite", **parts)


def FedExP(epsilon: float | None = None, **parts: Any):
    """FedExP (Jhunjhunwala et al. 2023): the server's step size from how much updates differ."""
    return section("algorithm", extrapolation_epsilon=epsilon) | Algorithm("fed_exp", **parts)


def FedEx(choices: Mapping[str, list] | None = None, **parts: Any):
    """FedEx (Khodak et al. 2021): clients draw settings, such as {"client_learning_rate": [0.001, 0.01]}."""
    return section("algorithm", client_choices=choices) | Algorithm("fed_ex", **parts)


def DeltaSGD(**parts: Any):
    """Delta-SGD (Kim et al. 2024): clients' rates from the smoothness of their loss."""
    return Algorithm("delta_sgd", **parts)


def FedBuff(buffer_size: int, **parts: Any):
    """FedBuff (Nguyen et al. 2022); of `parts`, concurrency, staleness_exponent and max_staleness are its own."""
    return Algorithm("fed_avg", buffer_size=buffer_size, **parts)


def FedDF(groups: tuple = (), steps: int | None = None, learning_rate: float | None = None, **parts: Any):
    """FedDF (Lin et al. 2020): distillation on the server; of `parts`, teachers and ensemble_batch_size are its own."""
    own = section("ensemble", enabled=True, groups=groups, steps=steps, learning_rate=learning_rate)
    return own | Algorithm("fed_avg", **parts)


def stack(*layers: Part):
    """Layers of aggregation: zeroing, clipping, compression, aggregator; an update passes them in this order."""
    return Part({path: value for layer in layers for path, value in layer.items()})


def clip(norm: float | str):
    """Clips updates to an L2 norm, or with "adaptive" to a quantile of theirs."""
    return section("aggregation", clip_norm=str(norm))


def zero(norm: float | str):
    """Replaces updates with an element above a magnitude, or with "adaptive" above what is usual, by 0."""
    return section("aggregation", zeroing_norm=str(norm))


def compress(name: str, download: str | None = None, **more: Any):
    """Compresses updates, and downloads; `more` are fraction, rank and error_feedback."""
    return section("compression", upload=name, download=download, **more)


def aggregator(name: str, **more: Any):
    """An aggregator by its name, a plug-in's too; `more` are settings of the section `aggregation`."""
    return section("aggregation", aggregator=name, **more)


def mean():
    """The mean of the updates."""
    return aggregator("mean")


def _private(mechanism, epsilon, noise, more):
    return section("privacy", mechanism=mechanism, target_epsilon=epsilon, noise_multiplier=noise, **more)


def DPFedAvg(target_epsilon: float | None = None, noise_multiplier: float | None = None, **more: Any):
    """DP-FedAvg (McMahan et al. 2018), by default with Poisson sampling; `more` are settings of `privacy`."""
    return section("cohort", sampling="poisson") | _private("gaussian", target_epsilon, noise_multiplier, more)


def AdaptiveDPFedAvg(target_epsilon: float | None = None, noise_multiplier: float | None = None, **more: Any):
    """DP-FedAvg with an adaptive clip (Andrew et al. 2021); as `DPFedAvg`."""
    return section("cohort", sampling="poisson") | _private("adaptive", target_epsilon, noise_multiplier, more)


def DPFTRL(target_epsilon: float | None = None, noise_multiplier: float | None = None, **more: Any):
    """DP-FTRL by tree aggregation (Kairouz et al. 2021), with a minimum separation; `more` as in `DPFedAvg`."""
    return section("cohort", sampling="min_separation") | _private("tree", target_epsilon, noise_multiplier, more)


def BandMF(target_epsilon: float | None = None, noise_multiplier: float | None = None, **more: Any):
    """Banded matrix factorization (Choquette-Choo et al. 2023), with a minimum separation; as `DPFTRL`."""
    return section("cohort", sampling="min_separation") | _private("banded", target_epsilon, noise_multiplier, more)


def LocalDP(clip_norm: float, noise_multiplier: float):
    """Local differential privacy of updates."""
    return section("local_privacy", clip_norm=clip_norm, noise_multiplier=noise_multiplier)


def DPSGD(clip_norm: float, noise_multiplier: float, microbatches: int | None = None):
    """Example-level differential privacy in the client (Abadi et al. 2016)."""
    return section("example_privacy", clip_norm=clip_norm, noise_multiplier=noise_multiplier, microbatches=microbatches)


def Devices(**values: Any):
    """Simulated devices, by the names of the section `devices`."""
    return section("devices", **values)


def Attack(name: str, share: float | None = None, **more: Any):
    """Attackers among the clients, by the names of the section `attack`."""
    return section("attack", name=name, share=share, **more)


def Ray(address: str | None = None, silos: tuple = (), **more: Any):
    """The Ray engine, on this machine or a cluster; `more` are named as flags are."""
    return section("engine", name="ray", ray_address=address) | section("data", silos=silos) | settings(**more)
