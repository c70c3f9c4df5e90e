"""The options of AVAR's reinforcement learning: TRL's, and those of VARS and other perception signals."""

from dataclasses import dataclass, field
from typing import Final

from trl import GRPOConfig

from avar_eval.errors import UsageError
from avar_eval.recipes.grpo.signals import ATTENTION_REWARDS

_WEIGHTS: Final = (
    *(f"{name}_weight" for name in ATTENTION_REWARDS),
    "format_weight",
    "perception_weight",
    "perception_entropy_weight",
    "masked_entropy_weight",
)


@dataclass
class AvarGRPOConfig(GRPOConfig):  # type: ignore[misc] # TRL is untyped here
    """TRL's GRPOConfig with the weights of Eq. 8, and the defaults of Eq. 10: mean over each sequence, then the group.

    Of TRL's defaults it changes loss_type to "grpo" and turns vllm_importance_sampling_correction off; beta 0, 8
    generations and clipping at 0.2 are TRL's own. The weights of other papers' perception signals are 0
    (`avar_eval.recipes.grpo.signals`).
    """

    visual_weight: float = field(default=0.3, metadata={"help": "lambda_v, the weight of r_visual (Eq. 8)."})
    format_weight: float = field(default=0.1, metadata={"help": "lambda_f, the weight of r_format (Eq. 8)."})
    visual_cap: float | None = field(
        default=None,
        metadata={"help": "Upper bound of r_visual and late attention before their weights; the papers have none."},
    )
    late_attention_weight: float = field(
        default=0.0, metadata={"help": "Reflection-V: weight of the second half's attention to the image as a reward."}
    )
    perception_weight: float = field(
        default=0.0, metadata={"help": "PAPO: gamma, the weight of the divergence from the masked image (0.01 there)."}
    )
    perception_entropy_weight: float = field(
        default=0.0, metadata={"help": "PAPO: eta_1, the weight of the policy's entropy in the loss (0.03 there)."}
    )
    masked_entropy_weight: float = field(
        default=0.0,
        metadata={"help": "PAPO: eta_2, the weight of its entropy with the masked image (0.03), by a pass more."},
    )
    dependence_weight: float = field(
        default=0.0, metadata={"help": "VPPO: how much of its shaping of advantages is applied, from 0 to 1."}
    )
    dependent_share: float = field(
        default=0.4, metadata={"help": "VPPO: share of a response's tokens, the most dependent ones, that are learnt."}
    )
    least_factor: float = field(
        default=0.9, metadata={"help": "VPPO: beta_min, the factor of the advantage of the least dependent response."}
    )
    masked_share: float = field(
        default=0.6, metadata={"help": "PAPO and VPPO: share of an image's tokens that are black (0.6, 0.5 there)."}
    )
    dataset_num_proc: int | None = field(
        default=None, metadata={"help": "Processes that prepare rows, as in TRL's SFT; TRL's GRPO has no such option."}
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
        for name in _WEIGHTS:
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("dependence_weight", "dependent_share", "least_factor", "masked_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
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
        return any(getattr(self, f"{name}_weight") for name in ATTENTION_REWARDS)

    @property
    def masks_images(self) -> bool:
        """Whether the policy is asked with masked images as well."""
        return bool(self.perception_weight or self.masked_entropy_weight or self.dependence_weight)

    @property
    def perception_weights(self) -> tuple[float, float, float]:
        """gamma, eta_1 and eta_2 of PAPO."""
        return self.perception_weight, self.perception_entropy_weight, self.masked_entropy_weight
