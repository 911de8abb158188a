"""Flags of the method. One that does not apply to it is refused."""

from absl import flags as absl_flags

from fastbat_tf.experiment.config import MethodConfig
from fastbat_tf.methods import METHODS, options
from flags import fractions

METHOD = absl_flags.DEFINE_string(
    "method", MethodConfig().method, f"Training method: {', '.join(METHODS)}."
)


def _float(name, help_text):
    return absl_flags.DEFINE_float(name, None, help_text)


def _integer(name, help_text):
    return absl_flags.DEFINE_integer(name, None, help_text)


def _choice(name, help_text, known):
    help_text = f"{help_text}: {', '.join(known)}."
    return absl_flags.DEFINE_string(name, None, help_text)


OPTIONS = {
    "epsilon": fractions.define(
        "epsilon", None, "Radius of the L-infinity ball (default 8/255)."
    ),
    "step_size": fractions.define(
        "step_size", None, "Step of the lower level (default: by the method)."
    ),
    "steps": _integer(
        "steps",
        "pgd, trades, zerograd: number of steps (default 2, 10, 1).",
    ),
    "implicit_lambda": _float(
        "implicit_lambda",
        "fastbat: lambda of the implicit term (default 10); inf leaves it out.",
    ),
    "linearization": _choice(
        "linearization",
        "fastbat: how the linearization point is found (default ns-pgd)",
        options.LINEARIZATIONS,
    ),
    "implicit_gradient": _choice(
        "implicit_gradient",
        "fastbat: how the implicit term is computed (default exact)",
        options.IMPLICIT_GRADIENTS,
    ),
    "coefficient": _float(
        "coefficient",
        "Weight of the second term of the loss: gradalign, trades, gat, nuat, "
        "elle, aaer, liet, fgsm_* (default: as published).",
    ),
    "attack_mode": _choice(
        "attack_mode",
        "pgd, trades, nuat: BatchNormalization in the attack (default "
        "training for pgd, else inference)",
        options.MODES,
    ),
    "form": _choice(
        "form",
        "gradalign, gat, aaer, fgsm_uap, fgsm_cuap, fgsm_fuap: as the paper "
        "has it, or as the FastAT Benchmark",
        options.FORMS,
    ),
    "noise_scale": _float(
        "noise_scale", "nfgsm: the noise is so many epsilon (default 2)."
    ),
    "quantile": _float(
        "quantile", "zerograd: share of the gradient set to 0 (default 0.35)."
    ),
    "replays": _integer(
        "replays",
        "free: updates on each batch (default 4); they divide the epochs.",
    ),
    "start": _choice(
        "start",
        "free: the perturbation goes on to the next batch, or begins at 0",
        options.FREE_STARTS,
    ),
    "growth": _float(
        "growth", "gat: what multiplies the coefficient in the end (default 4)."
    ),
    "coefficient_schedule": _choice(
        "coefficient_schedule", "elle: ELLE or ELLE-A", options.SCHEDULES
    ),
    "base_attack": _choice(
        "base_attack", "aaer: what it is added to", options.BASE_ATTACKS
    ),
    "loss_coefficient": _float(
        "loss_coefficient", "aaer: lambda_2 (default 1.5 or 2.5)."
    ),
    "logit_coefficient": _float(
        "logit_coefficient", "aaer: lambda_3 (default 0.15 or 1.5)."
    ),
    "checkpoints": _integer(
        "checkpoints", "ssat: parts of a step that are tried (default 3)."
    ),
    "momentum_decay": _float(
        "momentum_decay",
        "fgsm_pgi, fgsm_mep_cs, fgsm_*uap: decay of the momentum of the start "
        "(default 0.3).",
    ),
    "reset_epochs": _integer(
        "reset_epochs",
        "fgsm_pgi, fgsm_mep_cs: what is remembered is forgotten after so many "
        "epochs (default 40).",
    ),
    "label_factor": _float(
        "label_factor",
        "fgsm_pgi, fgsm_rs_cs, fgsm_mep_cs, fgsm_pco: what a relaxed label "
        "keeps of the class (default 0.6); 1 for label_smoothing alone.",
    ),
    "tolerance": _float(
        "tolerance",
        "fgsm_rs_cs, fgsm_mep_cs: the jump of the benign loss that is allowed "
        "(default 0.03).",
    ),
    "stride": _integer(
        "stride",
        "fgsm_rs_cs, fgsm_mep_cs: epochs at either end in which it is free "
        "(default 1).",
    ),
    "reach": _float(
        "reach", "fgsm_pco: factor of the new perturbation (default 1.5)."
    ),
    "uap_epsilon": fractions.define(
        "uap_epsilon",
        None,
        "fgsm_uap, fgsm_cuap, fgsm_fuap: radius of the universal perturbations "
        "(default 1.25 epsilon).",
    ),
    "uaps": _integer("uaps", "fgsm_fuap: how many there are (default 50)."),
    "random_smoothing": _float(
        "random_smoothing",
        "liet: share of the label spread at random (default 0.6).",
    ),
    "min_mask_ratio": _float(
        "min_mask_ratio", "liet: least share of noise pixels (default 0.1)."
    ),
    "max_mask_ratio": _float(
        "max_mask_ratio", "liet: largest share of noise pixels (default 0.5)."
    ),
    "refresh_batches": _integer(
        "refresh_batches",
        "liet: batches after which the start is renewed (default 20).",
    ),
}


def get_config():
    """The `MethodConfig` of the flags."""
    given = {name: flag.value for name, flag in OPTIONS.items()}
    return MethodConfig(METHOD.value, given)
