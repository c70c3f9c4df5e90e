"""VARS as a TRL trainer: r_total = r_accuracy + lambda_v r_visual + lambda_f r_format (Eq. 7-10)."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from trl import GRPOTrainer

from avar_eval.answers import FinishReason, Judgement
from avar_eval.attention.measure import with_responses
from avar_eval.attention.objectives import visual_reward
from avar_eval.attention.observe import observe
from avar_eval.attention.roles import Role, batch_roles
from avar_eval.attention.score import pooled
from avar_eval.errors import UsageError
from avar_eval.recipes.attention_terms import AttentionTrainingError, prepared_markup
from avar_eval.recipes.grpo.config import AvarGRPOConfig
from avar_eval.recipes.grpo.rewards import format_reward, judge
from avar_eval.recipes.resume import ResumableTrainer

REWARDS = ("accuracy", "visual", "format")
_DOMINANT = 0.5


class AvarGRPOTrainer(ResumableTrainer, GRPOTrainer):  # type: ignore[misc] # TRL is untyped here
    """TRL's GRPOTrainer with the three rewards of Eq. 8; with weights 0 it is TRL's with the accuracy reward alone.

    Rows have `prompt` (conversational), `image` or `images`, `answer`, and optionally `answer_type`, `choices` and
    `precision`. r_visual is the mean over the response's tokens of Eq. 7, 0 for a wrong, truncated or unparsed answer,
    and left out for a prompt without an image. It is measured in one pass over prompt and response under the model
    that is trained, also where vLLM has generated the response.

    Logged beside TRL's `rewards/NAME/mean` and `/std` (before their weights): `reward_share/NAME`, the part of the
    total; `answers/truncated` and `answers/unparsed`; `visual_ratio`, Eq. 7 of all responses, right or wrong.

    Raises UsageError, ChatTemplateError, ObserveError or AttentionTrainingError, before any training, if r_visual has a
    weight and attention cannot be measured.
    """

    def __init__(self, model: Any, args: AvarGRPOConfig, **kwargs: Any) -> None:
        for option in ("reward_funcs", "tools", "rollout_func", "environment_factory"):
            if kwargs.get(option) is not None:
                raise UsageError(f"{option} cannot be given: the rewards are those of Eq. 8, for one turn of the model")
        weights = {"accuracy": 1.0, "visual": args.visual_weight, "format": args.format_weight}
        functions = {
            "accuracy": self._accuracy_reward,
            "visual": self._visual_reward,
            "format": self._format_reward,
        }
        self._used = [name for name in REWARDS if weights[name]]
        args.reward_weights = [weights[name] for name in self._used]
        super().__init__(model, reward_funcs=[functions[name] for name in self._used], args=args, **kwargs)
        self.reward_func_names = list(self._used)
        self._warned = False
        if args.visual_weight:
            self._markup = prepared_markup(self, args.attention_layers)
            self._check_first_row()

    def _check_first_row(self) -> None:
        row = next(iter(self.train_dataset))
        _, prompts = self._encoded([row])
        if Role.SYSTEM not in self._markup.prompt_roles(prompts[0]):
            raise AttentionTrainingError(
                "the first prompt has no system turn, so r_visual (Eq. 7) has no denominator: begin every prompt with "
                "a system message, or set visual_weight to 0"
            )

    def _accuracy_reward(self, completion_ids: Sequence[Sequence[int]], **columns: Any) -> list[float]:
        judgements = self._judgements(completion_ids, columns)
        states: tuple[Literal["truncated", "unparsed"], ...] = ("truncated", "unparsed")
        for state in states:
            share = sum(judgement.state == state for judgement in judgements) / len(judgements)
            columns["log_metric"](f"answers/{state}", share)
        return [float(judgement.correct) for judgement in judgements]

    def _format_reward(self, completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        return [format_reward(self._response(ids)[0]) for ids in completion_ids]

    def _visual_reward(
        self, prompts: Sequence[Any], completion_ids: Sequence[Sequence[int]], **columns: Any
    ) -> list[float | None]:
        correct = torch.tensor([judgement.correct for judgement in self._judgements(completion_ids, columns)])
        ratios = self._visual_ratios(prompts, completion_ids)
        sees = ~ratios.isnan()
        if sees.any():
            columns["log_metric"]("visual_ratio", float(ratios[sees].mean()))
        rewards = torch.where(correct, ratios, torch.zeros_like(ratios))
        if self.args.visual_cap is not None:
            rewards = rewards.clamp(max=self.args.visual_cap)
        return [float(reward) if seen else None for reward, seen in zip(rewards, sees, strict=True)]

    def _judgements(self, completion_ids: Sequence[Sequence[int]], columns: Mapping[str, Any]) -> list[Judgement]:
        names = [name for name in ("answer", "answer_type", "choices", "precision") if name in columns]
        rows = [{name: columns[name][place] for name in names} for place in range(len(completion_ids))]
        return [judge(row, *self._response(ids)) for row, ids in zip(rows, completion_ids, strict=True)]

    def _response(self, ids: Sequence[int]) -> tuple[str, FinishReason]:
        """The response as the model wrote it, with tags that are special tokens, without what ends its turn."""
        ending = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        end = len(ids)
        while end and ids[end - 1] in ending:
            end -= 1
        text: str = self._tokenizer.decode(list(ids[:end]), skip_special_tokens=False)
        return text, "stop" if end < len(ids) else "length"

    @torch.no_grad()
    def _visual_ratios(self, prompts: Sequence[Any], completion_ids: Sequence[Sequence[int]]) -> Tensor:
        """Eq. 7 of each response as if it were right; nan where the prompt has no image."""
        training, args = self.model.training, self.args
        size = args.per_device_train_batch_size if training else args.per_device_eval_batch_size
        self.model.eval()  # no dropout, no random numbers
        try:
            parts = [
                self._measured([{"prompt": prompt} for prompt in prompts[start : start + size]], responses)
                for start in range(0, len(prompts), size)
                for responses in [completion_ids[start : start + size]]
            ]
        finally:
            self.model.train(training)
        return torch.cat(parts)

    def _measured(self, rows: Sequence[Mapping[str, Any]], responses: Sequence[Sequence[int]]) -> Tensor:
        inputs, prompts = self._encoded(rows)
        width = inputs["input_ids"].shape[1]
        roles = batch_roles(self._markup, prompts, responses, width, width + max(map(len, responses)))
        if not bool(roles.mask(Role.SYSTEM).any(-1).all()):
            raise AttentionTrainingError(
                "a prompt has no system turn, so r_visual (Eq. 7) has no denominator: begin every prompt with a system "
                "message, or set visual_weight to 0"
            )
        with (
            self.accelerator.autocast(),
            observe(
                self.model,
                roles,
                queries="response",
                groups=("image", "system"),
                layers=self.args.attention_layers,
                reduce_heads=True,
            ) as observation,
        ):
            self.model(**with_responses(inputs, responses), use_cache=False, logits_to_keep=1)
        masses = observation.masses()
        if observation.pool_layers:
            masses = pooled(masses)
        image, system = masses.cpu().unbind(-1)
        # earlier answers in the prompt have the role of a response, too
        generated = observation.query_mask(Role.RESPONSE) & (torch.tensor(observation.positions) >= width)
        rewards = visual_reward(image, system, generated, torch.ones(len(rows), dtype=torch.bool))
        return rewards.masked_fill(~roles.mask(Role.IMAGE).any(-1), float("nan"))

    def _encoded(self, rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[list[int]]]:
        """Model inputs of prompts, left-padded, and their token ids, by the processor that TRL's own pass uses."""
        messages = [_with_images(row) for row in rows]
        inputs = self.processing_class.apply_chat_template(
            messages,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
            processor_kwargs={"padding": True, "padding_side": "left", "add_special_tokens": False},
            **self.chat_template_kwargs,
        ).to(self.accelerator.device)
        ids = [
            row[present.bool()].tolist()
            for row, present in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        ]
        return dict(inputs), ids

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        """TRL's table of rewards [responses of all processes, rewards], after logging what each is of the total."""
        rewards: Tensor = super()._calculate_rewards(*args, **kwargs)
        weighted = (rewards * self.reward_weights.to(rewards.device)).nan_to_num(0.0).sum(0)
        total = float(weighted.sum())
        if total > 0:
            shares = dict(zip(self._used, (weighted / total).tolist(), strict=True))
            metrics = self._metrics["train" if self.model.training else "eval"]
            for name, share in shares.items():
                metrics[f"reward_share/{name}"].append(share)
            self._warn_if_dominant(shares.get("visual", 0.0))
        return rewards

    def _warn_if_dominant(self, share: float) -> None:
        if share <= _DOMINANT or self._warned:
            return
        self._warned = True
        warnings.warn(
            f"r_visual makes up {share:.0%} of the total reward: among right answers the model is then trained to "
            "look, whatever it says. Eq. 7 has no upper bound: set visual_cap, or lower visual_weight "
            f"(now {self.args.visual_weight})",
            stacklevel=2,
        )


def _with_images(row: Mapping[str, Any]) -> Any:
    """A row's messages with their images in place; those of a prompt that TRL has prepared are there already."""
    from trl.data_utils import prepare_multimodal_messages

    images = row.get("images") or ([row["image"]] if row.get("image") is not None else [])
    return prepare_multimodal_messages(row["prompt"], images=images)
