"""Private set intersection: which rows two or more parties have in common, and an order of these rows at each."""

from tff_tx.federation.alignment.identifiers import Identifiers, normalized
from tff_tx.federation.alignment.intersection import Ask, intersect
from tff_tx.federation.alignment.masks import EllipticCurve, KeyedHash
from tff_tx.federation.alignment.member import Member
from tff_tx.federation.alignment.order import RowOrder
from tff_tx.federation.alignment.state import State
