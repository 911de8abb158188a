"""Measures the robustness of any classifier; needs no run directory."""

from fastbat_tf.evaluation.alignment import GradientAlignment
from fastbat_tf.evaluation.robustness import evaluate_robustness

__all__ = ["GradientAlignment", "evaluate_robustness"]
