"""The public names, for `lazy_loader` and for tools that read types."""

from .apgd import APGD as APGD
from .apgd import APGDTargeted as APGDTargeted
from .autoattack import AutoAttack as AutoAttack
from .base import Attack as Attack
from .base import SteppedAttack as SteppedAttack
from .fab import FAB as FAB
from .fgsm import FGSM as FGSM
from .mi_fgsm import MIFGSM as MIFGSM
from .nearest import NearestExamples as NearestExamples
from .nearest import nearest_adversarial as nearest_adversarial
from .pgd import PGD as PGD
from .records import AdversarialExamples as AdversarialExamples
from .registry import ATTACKS as ATTACKS
from .registry import DEFAULT_EPSILON as DEFAULT_EPSILON
from .registry import LARGEST_EPSILON as LARGEST_EPSILON
from .registry import build as build
from .registry import check_attacks as check_attacks
from .registry import check_epsilons as check_epsilons
from .registry import check_surrogate as check_surrogate
from .registry import get as get
from .registry import parse as parse
from .registry import parse_norm as parse_norm
from .square import Square as Square
from .targetable import TargetableAttack as TargetableAttack
from .transfer import Transfer as Transfer
