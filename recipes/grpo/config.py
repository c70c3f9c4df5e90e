"""The options of AVAR's reinforcement learning: TRL's, and those of VARS."""

from dataclasses import dataclass, field

from trl import GRPOConfig

from avar_eval.errors import UsageError


@dataclass
class AvarGRPOConfig(GRPOConfig):  # type: ignore[misc] # TRL is untyped here
    """TRL's GRPOConfig with the weights of Eq. 8, and the defaults of Eq. 10: mean over each sequence, then the group.

    Of TRL's defaults it changes loss_type to "grpo" and turns vllm_importance_sampling_correction off; beta 0, 8
    generations and clipping at 0.2 are TRL's own.
    """

    visual_weight: float = field(default=0.3, metadata={"help": "lambda_v, the weight of r_visual (Eq. 8)."})
    format_weight: float = field(default=0.1, metadata={"help": "lambda_f, the weight of r_format (Eq. 8)."})
    visual_cap: float | None = field(
        default=None, metadata={"help": "Upper bound of r_visual before its weight; the paper has none."}
    )
    attention_layers: list[int] | None = field(
        default=None, metadata={"help": "Decoder layers of r_visual (Eq. 7), counted from 0; all by default."}
    )
    loss_type: str = field(
        default="grpo", metadata={"help": "TRL's loss types; `grpo` is the per-sequence mean of Eq. 10."}
    )
    vllm_importance_sampling_correction: bool = field(
        default=False,
        metadata={
            "help": "Multiply a response's loss by how much likelier the trainer finds it than vLLM; Eq. 10 does not. "
            "In TRL's default mode, sequence_mask, long responses teach nothing; in token_truncate they do."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.visual_weight < 0 or self.format_weight < 0:
            raise UsageError(
                f"visual_weight and format_weight (Eq. 8) must not be negative, got {self.visual_weight} and "
                f"{self.format_weight}"
            )
        if self.visual_cap is not None and self.visual_cap <= 0:
            raise UsageError(f"visual_cap must be above 0, got {self.visual_cap}; leave it out for no bound")
        if self.reward_weights is not None:
            raise UsageError("reward_weights are those of Eq. 8: set visual_weight and format_weight")
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise UsageError("Eq. 9 normalises the sum of the rewards: leave multi_objective_aggregation out")
        if self.remove_unused_columns:
            raise UsageError("remove_unused_columns would take the answers that responses are judged by: leave it out")
        if self.load_best_model_at_end:
            raise UsageError("load_best_model_at_end is not supported: score the checkpoints and keep the best")
        if self.trains_attention and (self.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise UsageError(
                "attention cannot be measured under reentrant gradient checkpointing: set "
                "gradient_checkpointing_kwargs to {use_reentrant: false}"
            )

    @property
    def trains_attention(self) -> bool:
        """Whether attention is measured at all."""
        return bool(self.visual_weight)
