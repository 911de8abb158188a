"""The public names, for `lazy_loader` and for tools that read types."""

from .alignment import GradientAlignment as GradientAlignment
from .robustness import evaluate_robustness as evaluate_robustness
