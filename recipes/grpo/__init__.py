"""Reinforcement learning with visual-anchored reward shaping (VARS, Eq. 7-10 of arXiv 2603.03825)."""

from avar_eval.recipes.grpo.config import AvarGRPOConfig
from avar_eval.recipes.grpo.trainer import AvarGRPOTrainer

__all__ = ["AvarGRPOConfig", "AvarGRPOTrainer"]
