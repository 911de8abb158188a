"""The public names, for `lazy_loader` and for tools that read types."""

from .alignment import GradientAlignment as GradientAlignment
from .corruptions import evaluate_corruptions as evaluate_corruptions
from .robustness import evaluate_robustness as evaluate_robustness
