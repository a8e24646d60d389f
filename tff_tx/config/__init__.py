"""The configuration of a run: sections of settings, what they forbid one another, and what can be chosen by name."""

from tff_tx.config.aggregation import AggregationConfig
from tff_tx.config.clients import AttackConfig, CohortConfig, DevicesConfig
from tff_tx.config.option import Field, Section, option, show
from tff_tx.config.rules import check, check_resume, without_effect
from tff_tx.config.run_config import FIELDS, SECTIONS, RunConfig, coordinated, flag_of, resolve
from tff_tx.config.task import DataConfig
