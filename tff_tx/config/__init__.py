"""The configuration of a run: sections of settings, what they forbid one another, and what can be chosen by name."""

from tff_tx.config.aggregation import AggregationConfig, CompressionConfig
from tff_tx.config.algorithm import AlgorithmConfig, ClientConfig, EnsembleConfig, ServerConfig
from tff_tx.config.attack import AttackConfig, CanariesConfig
from tff_tx.config.cohort import CohortConfig, DevicesConfig
from tff_tx.config.data import DataConfig
from tff_tx.config.engine import EngineConfig
from tff_tx.config.model import LoraConfig, ModelConfig, TaskConfig
from tff_tx.config.option import Field, Option, Section, option, show
from tff_tx.config.privacy import ExamplePrivacyConfig, LocalPrivacyConfig, PrivacyConfig
from tff_tx.config.rules import check, check_resume, resolve
from tff_tx.config.run import RunSettings
from tff_tx.config.run_config import FIELDS, SECTIONS, RunConfig, flag_of

__all__ = [
    "FIELDS",
    "SECTIONS",
    "AggregationConfig",
    "AlgorithmConfig",
    "AttackConfig",
    "CanariesConfig",
    "ClientConfig",
    "CohortConfig",
    "CompressionConfig",
    "DataConfig",
    "DevicesConfig",
    "EngineConfig",
    "EnsembleConfig",
    "ExamplePrivacyConfig",
    "Field",
    "LocalPrivacyConfig",
    "LoraConfig",
    "ModelConfig",
    "Option",
    "PrivacyConfig",
    "RunConfig",
    "RunSettings",
    "Section",
    "ServerConfig",
    "TaskConfig",
    "check",
    "check_resume",
    "flag_of",
    "option",
    "resolve",
    "show",
]
