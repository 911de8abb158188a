"""Fast adversarial training for Keras 3 classifiers on TensorFlow.

>>> import fastbat_tf
>>> robust = fastbat_tf.RobustClassifier(model, fastbat_tf.FastBAT(8 / 255))
"""

import importlib

__version__ = "0.1.0"

# Imported when first asked for: flags and their errors need no TensorFlow.
_EXPORTS = {
    "APGDAttack": "fastbat_tf.attacks.apgd",
    "APGDTargetedAttack": "fastbat_tf.attacks.apgd",
    "AutoAttack": "fastbat_tf.attacks.autoattack",
    "BatchNormalization": "fastbat_tf.layers",
    "FABAttack": "fastbat_tf.attacks.fab",
    "FGSMAttack": "fastbat_tf.attacks.fgsm",
    "PGDAttack": "fastbat_tf.attacks.pgd",
    "SquareAttack": "fastbat_tf.attacks.square",
    "TransferAttack": "fastbat_tf.attacks.transfer",
    "AAER": "fastbat_tf.methods.aaer",
    "ELLE": "fastbat_tf.methods.elle",
    "FGSM": "fastbat_tf.methods.fgsm",
    "FGSMCUAP": "fastbat_tf.methods.fgsm_cuap",
    "FGSMFUAP": "fastbat_tf.methods.fgsm_fuap",
    "FGSMMEPCS": "fastbat_tf.methods.fgsm_mep_cs",
    "FGSMPCO": "fastbat_tf.methods.fgsm_pco",
    "FGSMPGI": "fastbat_tf.methods.fgsm_pgi",
    "FGSMRSCS": "fastbat_tf.methods.fgsm_rs_cs",
    "FGSMUAP": "fastbat_tf.methods.fgsm_uap",
    "FastAT": "fastbat_tf.methods.fastat",
    "FastBAT": "fastbat_tf.methods.fastbat",
    "Free": "fastbat_tf.methods.free",
    "GAT": "fastbat_tf.methods.gat",
    "GradAlign": "fastbat_tf.methods.gradalign",
    "LIET": "fastbat_tf.methods.liet",
    "NFGSM": "fastbat_tf.methods.nfgsm",
    "NuAT": "fastbat_tf.methods.nuat",
    "PGD": "fastbat_tf.methods.pgd",
    "SSAT": "fastbat_tf.methods.ssat",
    "Standard": "fastbat_tf.methods.standard",
    "TRADES": "fastbat_tf.methods.trades",
    "ZeroGrad": "fastbat_tf.methods.zerograd",
    "EpsilonSchedule": "fastbat_tf.training.epsilon_schedule",
    "Method": "fastbat_tf.methods.base",
    "Solution": "fastbat_tf.methods.base",
    "StepContext": "fastbat_tf.methods.step",
    "option": "fastbat_tf.methods.options",
    "GradientAlignment": "fastbat_tf.evaluation.alignment",
    "OverfittingGuard": "fastbat_tf.training.callbacks",
    "OverfittingScores": "fastbat_tf.training.callbacks",
    "Plan": "fastbat_tf.methods.state",
    "RobustValidation": "fastbat_tf.training.callbacks",
    "RobustClassifier": "fastbat_tf.training.classifier",
    "evaluate_robustness": "fastbat_tf.evaluation.robustness",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
