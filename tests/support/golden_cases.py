"""Which of our methods, options and draws the recorded methods are."""

from typing import Any, NamedTuple

import numpy as np

# Of the recorded trainings, all of them.
EPOCHS = 100

_START = {"start": "noise"}


class Case(NamedTuple):
    """How a recorded method is ours.

    Attributes:
        method: A key of `METHODS`.
        options: Function from the recorded settings to its options.
        draws: Dict from our names of draws to recorded names, or functions
            from a function that finds an array of the step.
        smooths: Whether `label_smoothing` is that of the training loss.
        plain_attack: Whether the attack raises the plain cross-entropy.
        reports: Dict from recorded names to our reports.
    """

    method: str
    options: Any = lambda s: {}
    draws: dict = {}
    smooths: bool = True
    plain_attack: bool = False
    reports: dict = {}


def _uap(s):
    return {
        "coefficient": s["lamda"],
        "uap_epsilon": s["uap_eps"],
        "momentum_decay": s["momentum_decay"],
        "form": "benchmark",
    }


def _convergence(s):
    return {
        "label_factor": s["factor"],
        "tolerance": s["gamma"],
        "coefficient": s["w2"],
    }


def _aaer(s):
    return {
        "base_attack": "fastat" if s["clamp"] else "nfgsm",
        "step_size": s["fgsm_alpha"] * s["epsilon"],
        "coefficient": s["lamda1"],
        "loss_coefficient": s["lamda2"],
        "logit_coefficient": s["lamda3"],
        "form": "benchmark",
    }


_AAER = Case(
    "aaer",
    _aaer,
    _START,
    smooths=False,
    reports={"n_abnormal": "abnormal_share"},
)
_RS_CS = Case(
    "fgsm_rs_cs",
    _convergence,
    _START,
    reports={"gate_sign": "convergence_sign"},
)

CASES = {
    "fgsm_at": Case("fgsm"),
    "fgsm_rs": Case("fastat", draws=_START),
    "n_fgsm": Case("nfgsm", draws={"noise": "noise"}),
    "zero_grad": Case(
        "zerograd",
        lambda s: {
            "quantile": s["q_val"],
            "step_size": s["fgsm_alpha"] * s["epsilon"],
        },
        _START,
        plain_attack=True,
    ),
    "free_at": Case("free", lambda s: {"replays": s["m"], "start": "zero"}),
    "pgd_at": Case(
        "pgd",
        lambda s: {
            "steps": s["steps"],
            "step_size": s["alpha"],
            "attack_mode": "inference",
        },
        _START,
        plain_attack=True,
    ),
    "grad_align": Case(
        "gradalign",
        lambda s: {
            "coefficient": s["grad_align_lambda"],
            "step_size": s["epsilon"],
            "form": "benchmark",
        },
        {"alignment": "noise"},
        plain_attack=True,
        reports={"cos": "gradient_alignment"},
    ),
    "gat": Case(
        "gat",
        lambda s: {"coefficient": s["l2_reg"], "form": "benchmark"},
        _START,
    ),
    "nu_at": Case(
        "nuat",
        lambda s: {
            "coefficient": s["nuc_reg"] * EPOCHS / max(s["epoch"], 1),
            "attack_mode": "training",
        },
        _START,
    ),
    "elle": Case(
        "elle",
        lambda s: {
            "coefficient": s["lin_reg"],
            "step_size": s["fgsm_alpha"] * s["epsilon"],
        },
        {
            **_START,
            "first": lambda of: np.split(of("triplet_noise"), 2)[0],
            "second": lambda of: np.split(of("triplet_noise"), 2)[1],
            "share": "triplet_mix",
        },
        plain_attack=True,
        reports={"lin_err": "linearity_error"},
    ),
    "n_aaer": _AAER,
    "rs_aaer": _AAER,
    "ssat": Case(
        "ssat",
        lambda s: {"checkpoints": s["c"], "step_size": s["alpha"]},
        _START,
        reports={"step_fraction": "step_fraction"},
    ),
    "fgsm_pgi": Case(
        "fgsm_pgi",
        lambda s: {
            "coefficient": s["lamda"],
            "momentum_decay": s["momentum_decay"],
            "label_factor": 1,
        },
        {"start": lambda of: np.zeros_like(of("x"))},
    ),
    "liet": Case(
        "liet",
        lambda s: {
            "coefficient": s["cur_lambda"] * EPOCHS / (s["epoch"] + 1),
            "random_smoothing": s["label_smoothing"],
        },
        {
            # Drawn at the first step alone.
            "gray_smoothing": lambda of: of("smooth_u_li", np.zeros((10, 10))),
            # 1 where the draw was below the ratio.
            "mask": lambda of: 1 - of("mask"),
            "mask_ratio": "mask_ratio",
            "noise": "noise",
            "sign": lambda of: (of("sign") + 1) / 2,
            "attack_smoothing": "smooth_u_init",
            "smoothing": "smooth_u_adv",
        },
        smooths=False,
        reports={"js": "divergence"},
    ),
    "fgsm_rs_cs": _RS_CS,
    "fgsm_rs_cs_epoch0": _RS_CS,
    "fgsm_mep_cs": Case(
        "fgsm_mep_cs",
        lambda s: {
            **_convergence(s),
            "momentum_decay": s["momentum_decay"],
        },
        {"start": lambda of: np.zeros_like(of("x"))},
        reports={"gate_sign": "convergence_sign"},
    ),
    "fgsm_uap": Case("fgsm_uap", _uap),
    "fgsm_cuap": Case("fgsm_cuap", _uap),
    "fgsm_fuap": Case(
        "fgsm_fuap",
        lambda s: {**_uap(s), "uaps": s["uap_num"]},
        {"noise": "noise"},
    ),
    "fgsm_pco": Case(
        "fgsm_pco",
        lambda s: {
            "reach": s["beta"],
            "coefficient": s["lamda"],
            "label_factor": s["factor"],
        },
        {"start": lambda of: np.zeros_like(of("x"))},
    ),
}
