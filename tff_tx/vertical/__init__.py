"""Split Transformers: parties that know different things of the same rows train one model together."""

from tff_tx.vertical.crossing import Guard
from tff_tx.vertical.defences import gradient_defence, randomized_labels
from tff_tx.vertical.feature_party import FeatureParty
from tff_tx.vertical.halves import Half, cut_objective, input_spec
from tff_tx.vertical.label_party import LabelParty
from tff_tx.vertical.marvell import marvell
from tff_tx.vertical.masking import PartyMasks
from tff_tx.vertical.middle_party import MiddleParty
from tff_tx.vertical.networks import Bottom, Middle, Top, build_bottom, build_middle, build_top, top_spec
from tff_tx.vertical.private_steps import epsilons
from tff_tx.vertical.schedule import Schedule
from tff_tx.vertical.tables import PartyData, PartyRows, find_facts, label_names, party_data, read_rows
from tff_tx.vertical.training import Ask, evaluate, open_federation, predict, predict_further, train_epoch
from tff_tx.vertical.transfer import TransferParty
