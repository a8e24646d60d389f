"""Accounting of differential privacy: what was run <-> (epsilon, delta). Needs no TensorFlow, and starts fast."""

from tff_tx.privacy.accounting import (
    Ledger,
    default_delta,
    delta_for,
    epsilon,
    find_noise_multiplier,
    gaussian_delta,
    gaussian_epsilon,
    rho,
)
from tff_tx.privacy.calculator import report
from tff_tx.privacy.distributed import Distributed, discrete_gaussian_rdp, skellam_rdp
from tff_tx.privacy.local_mechanisms import ExampleLevelSgd, LocalGaussian
from tff_tx.privacy.matrix_factorization import BandedMatrix, optimize_banded, workload
from tff_tx.privacy.mechanism import Mechanism, Participation
from tff_tx.privacy.mechanisms import AdaptiveClipping, Gaussian, MatrixFactorization, TreeAggregation, amplification
from tff_tx.privacy.outputs import is_withheld
from tff_tx.privacy.plan import Plan, build_plan
from tff_tx.privacy.price import price
from tff_tx.privacy.sparse_histogram import SparseHistogram, find_sparse_histogram
from tff_tx.privacy.statement import ClientSideLedgers, build_client_side_ledgers, statement
