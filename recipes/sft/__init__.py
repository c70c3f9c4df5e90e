"""Cold-start fine-tuning with attention-guided training objectives (AGTO, Eq. 4-6 of arXiv 2603.03825)."""

from avar_eval.recipes.sft.config import AvarSFTConfig
from avar_eval.recipes.sft.trainer import AvarSFTTrainer

__all__ = ["AvarSFTConfig", "AvarSFTTrainer"]
