"""Algorithms, each a record whose `build` makes a `LearningProcess` of a functional model and `Options`.

A new one is a file here and a line in `tff_tx.config.registries`; outside of the package,
`@ALGORITHMS.register(name)`.
"""

from tff_tx.algorithms import capabilities
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.apfl import build_apfl
from tff_tx.algorithms.client import ClientTransform, accumulate, chain, distill, dp_sgd, local_dp, proximal
from tff_tx.algorithms.delta_sgd import build_delta_sgd
from tff_tx.algorithms.ditto import build_ditto
from tff_tx.algorithms.fed_avg import build_fed_avg
from tff_tx.algorithms.fed_babu import build_fed_babu
from tff_tx.algorithms.fed_dpa import build_fed_dpa_f, build_fed_dpa_t
from tff_tx.algorithms.fed_dyn import build_fed_dyn
from tff_tx.algorithms.fed_ex import build_fed_ex
from tff_tx.algorithms.fed_exp import build_fed_exp
from tff_tx.algorithms.fed_gkd import build_fed_gkd
from tff_tx.algorithms.fed_nova import build_fed_nova
from tff_tx.algorithms.fed_prox import build_fed_prox
from tff_tx.algorithms.fed_recon import build_fed_recon
from tff_tx.algorithms.fed_rep import build_fed_rep
from tff_tx.algorithms.fed_sgd import build_fed_sgd
from tff_tx.algorithms.ifca import build_ifca
from tff_tx.algorithms.lora import LORA_AGGREGATIONS, build_lora_fed_avg, build_process
from tff_tx.algorithms.mime_lite import build_mime_lite
from tff_tx.algorithms.mr_mtl import build_mr_mtl
from tff_tx.algorithms.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    build_adapter_optimizer,
    build_optimizer,
    build_schedule,
    schedule_learning_rate,
)
from tff_tx.algorithms.options import Options
from tff_tx.algorithms.p_fed_me import build_p_fed_me
from tff_tx.algorithms.per_fed_avg import build_per_fed_avg
from tff_tx.algorithms.reptile import build_reptile
from tff_tx.algorithms.scaffold import build_scaffold
from tff_tx.config.registries import ALGORITHMS
