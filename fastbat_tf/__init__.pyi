"""The public names, for `lazy_loader` and for tools that read types.

The one list of them: `fastbat_tf.__init__` reads it when it is imported.
"""

__version__: str

from . import attacks as attacks
from . import models as models
from .attacks.nearest import nearest_adversarial as nearest_adversarial
from .data.indexing import with_index as with_index
from .data.loading import load_data as load_data
from .evaluation.alignment import GradientAlignment as GradientAlignment
from .evaluation.corruptions import evaluate_corruptions as evaluate_corruptions
from .evaluation.plots import plot_adversarial as plot_adversarial
from .evaluation.robustness import evaluate_robustness as evaluate_robustness
from .layers import FusedBatchNormalization as FusedBatchNormalization
from .methods.base import Method as Method
from .methods.base import Solution as Solution
from .methods.options import option as option
from .methods.state import Plan as Plan
from .methods.step import StepContext as StepContext
from .saving.export import export as export
from .saving.model_info import ModelInfo as ModelInfo
from .saving.pytorch.weights import TorchWeights as TorchWeights
from .saving.pytorch.weights import load_torch_weights as load_torch_weights
from .training.callbacks import OverfittingGuard as OverfittingGuard
from .training.callbacks import OverfittingScores as OverfittingScores
from .training.callbacks import RobustAccuracy as RobustAccuracy
from .training.classifier import RobustClassifier as RobustClassifier
from .training.epsilon_schedule import EpsilonSchedule as EpsilonSchedule
from .training.weight_perturbation import (
    AdversarialWeightPerturbation as AdversarialWeightPerturbation,
)

# begin: methods
from .methods.aaer import AAER as AAER
from .methods.elle import ELLE as ELLE
from .methods.fastat import FastAT as FastAT
from .methods.fastbat import FastBAT as FastBAT
from .methods.fgsm import FGSM as FGSM
from .methods.fgsm_cuap import FGSMCUAP as FGSMCUAP
from .methods.fgsm_fuap import FGSMFUAP as FGSMFUAP
from .methods.fgsm_mep_cs import FGSMMEPCS as FGSMMEPCS
from .methods.fgsm_pco import FGSMPCO as FGSMPCO
from .methods.fgsm_pgi import FGSMPGI as FGSMPGI
from .methods.fgsm_rs_cs import FGSMRSCS as FGSMRSCS
from .methods.fgsm_uap import FGSMUAP as FGSMUAP
from .methods.free import Free as Free
from .methods.gat import GAT as GAT
from .methods.gradalign import GradAlign as GradAlign
from .methods.liet import LIET as LIET
from .methods.mart import MART as MART
from .methods.nfgsm import NFGSM as NFGSM
from .methods.nuat import NuAT as NuAT
from .methods.pgd import PGD as PGD
from .methods.ssat import SSAT as SSAT
from .methods.standard import Standard as Standard
from .methods.trades import TRADES as TRADES
from .methods.zerograd import ZeroGrad as ZeroGrad
# end: methods
