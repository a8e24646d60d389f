"""The client's step and its transforms: `chain(proximal(mu), distill(gamma), dp_sgd(C, sigma, b), accumulate(k))`."""

from tff_tx.algorithms.client.accumulation import Accumulation as accumulate
from tff_tx.algorithms.client.distill import Distillation as distill
from tff_tx.algorithms.client.dp_sgd import DpSgd as dp_sgd
from tff_tx.algorithms.client.local_dp import LocalDp as local_dp
from tff_tx.algorithms.client.personal import num_personal, personal_part, shared_part, train_part
from tff_tx.algorithms.client.proximal import Proximal as proximal
from tff_tx.algorithms.client.states import ServerState
from tff_tx.algorithms.client.training import Client, Seen, dense, zeros
from tff_tx.algorithms.client.transforms import Broadcast, Chain, ClientTransform, Context, Part, chain
from tff_tx.algorithms.client.work import build_client_work, build_server_update, compose
