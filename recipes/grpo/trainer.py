"""VARS as a TRL trainer, r_total = r_accuracy + lambda_v r_visual + lambda_f r_format (Eq. 7-10), and other signals."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from accelerate.utils import is_peft_model
from torch import Tensor, nn

from avar_eval.answers import FinishReason, Judgement
from avar_eval.attention.measure import with_responses
from avar_eval.attention.observe import observe
from avar_eval.attention.roles import Role, TokenRoles, batch_roles
from avar_eval.attention.score import pooled
from avar_eval.errors import UsageError
from avar_eval.recipes.attention_terms import AttentionTrainingError, prepared_markup
from avar_eval.recipes.grpo.config import AvarGRPOConfig
from avar_eval.recipes.grpo.masked import MaskedImageTrainer
from avar_eval.recipes.grpo.sampling import COLLAPSED, response_weights, weight_quantiles
from avar_eval.recipes.grpo.signals import ATTENTION_REWARDS
from avar_eval.recipes.resume import ResumableTrainer
from avar_eval.recipes.rewards import format_reward, judge
from avar_eval.recipes.sharding import gather_head, refuse_uneven_images

REWARDS = ("accuracy", *ATTENTION_REWARDS, "format")
_DOMINANT = 0.5


class Rollout(NamedTuple):
    """A response as the model wrote it, and its judgement."""

    text: str
    judgement: Judgement


class AvarGRPOTrainer(ResumableTrainer, MaskedImageTrainer):
    """TRL's GRPOTrainer with the three rewards of Eq. 8; with weights 0 it is TRL's with the accuracy reward alone.

    Rows have `prompt` (conversational), `image` or `images`, `answer`, and optionally `answer_type`, `choices` and
    `precision`. r_visual is the mean over the response's tokens of Eq. 7, 0 for a wrong, truncated or unparsed answer,
    and left out for a prompt without an image.

    It is measured under the model that is trained, also where vLLM has generated the response. Where TRL makes a pass
    of the policy over prompt and response before the rewards, it is measured in that one: for the correction of vLLM's
    mismatch, and for old log-probabilities, which TRL needs where gradient_accumulation_steps is no multiple of
    steps_per_generation x num_iterations. Otherwise it takes one pass of its own, because TRL's first pass of the
    policy is then the one that is trained on, and needs the rewards. So it does where dropout is active: TRL's pass
    then is not the model that has answered.

    Other perception signals are off without their weights (`avar_eval.recipes.grpo.signals`): `late_attention_weight`
    adds Reflection-V's reward to the sum, the others are `MaskedImageTrainer`'s.

    With vLLM the loss is Eq. 10's, without the weights of TRL's `vllm_importance_sampling_correction`; where that is
    turned on, quantiles of the weights are logged as `sampling/response_weight/p05`, `p50` and `p95`.

    Logged beside TRL's `rewards/NAME/mean` and `/std` (before their weights): `reward_share/NAME`, the part of the
    total; `answers/truncated` and `answers/unparsed`; `visual_ratio`, Eq. 7 of all responses, right or wrong (without
    those that mask_truncated_completions hides from TRL's pass), and `late_attention_ratio`.

    Raises UsageError, ChatTemplateError, ObserveError or AttentionTrainingError, before any training, if r_visual has a
    weight and attention cannot be measured.
    """

    def __init__(self, model: Any, args: AvarGRPOConfig, **kwargs: Any) -> None:
        for option in ("reward_funcs", "tools", "rollout_func", "environment_factory"):
            if kwargs.get(option) is not None:
                raise UsageError(f"{option} cannot be given: the rewards are those of Eq. 8, for one turn of the model")
        weights = {"accuracy": 1.0, "format": args.format_weight}
        functions: dict[str, Callable[..., Any]] = {"accuracy": self._accuracy_reward, "format": self._format_reward}
        for name in ATTENTION_REWARDS:
            weights[name] = getattr(args, f"{name}_weight")
            functions[name] = self._attention_reward(name)
        self._used = [name for name in REWARDS if weights[name]]
        self._attention_rewards = [name for name in self._used if name in ATTENTION_REWARDS]
        args.reward_weights = [weights[name] for name in self._used]
        super().__init__(model, reward_funcs=[functions[name] for name in self._used], args=args, **kwargs)
        self.model.register_forward_pre_hook(gather_head)
        self.reward_func_names = list(self._used)
        self._warned = False
        self._rollouts: list[Rollout] = []  # of the step whose rewards are computed
        self._warned_of_weights = False
        self._looked: list[Tensor] | None = None  # attention rewards of TRL's own pass, while it makes a batch
        self._ratios: Tensor | None = None  # the same of all responses of a step, where several rewards need them
        if args.trains_attention:
            self._own_adapters = _adapters(self.model) if is_peft_model(self.model) else None
            self._markup = prepared_markup(self, args.attention_layers)
            self._check_first_row()

    def _check_first_row(self) -> None:
        row = next(iter(self.train_dataset))
        _, prompts = self._encoded([row])
        if self.args.visual_weight and Role.SYSTEM not in self._markup.prompt_roles(prompts[0]):
            raise AttentionTrainingError(
                "the first prompt has no system turn, so r_visual (Eq. 7) has no denominator: begin every prompt with "
                "a system message, or set visual_weight to 0"
            )

    def _accuracy_reward(self, log_metric: Callable[[str, float], None], **_: Any) -> list[float]:
        judgements = [rollout.judgement for rollout in self._rollouts]
        states: tuple[Literal["truncated", "unparsed"], ...] = ("truncated", "unparsed")
        for state in states:
            log_metric(f"answers/{state}", sum(judgement.state == state for judgement in judgements) / len(judgements))
        return [float(judgement.correct) for judgement in judgements]

    def _format_reward(self, **_: Any) -> list[float]:
        return [format_reward(rollout.text) for rollout in self._rollouts]

    def _attention_reward(self, name: str) -> Callable[..., list[float | None]]:
        """The reward of that name, as TRL asks for it."""

        def reward(prompts: Any, completion_ids: Any, log_metric: Any, **_: Any) -> list[float | None]:
            ratios = self._attention_ratios(prompts, completion_ids)[:, self._attention_rewards.index(name)]
            return self._mask_wrong_answers(name, ratios, prompts, log_metric)

        reward.__name__ = name  # TRL's own name for it
        return reward

    def _mask_wrong_answers(
        self, name: str, ratios: Tensor, prompts: Sequence[Any], log_metric: Callable[[str, float], None]
    ) -> list[float | None]:
        """An attention reward: 0 for a wrong answer, None for a prompt without an image."""
        correct = torch.tensor([rollout.judgement.correct for rollout in self._rollouts])
        known = ~ratios.isnan()
        if known.any():
            log_metric(f"{name}_ratio", float(ratios[known].mean()))
        rewards = torch.where(correct, ratios, torch.zeros_like(ratios))
        if self.args.visual_cap is not None:
            rewards = rewards.clamp(max=self.args.visual_cap)
        return [float(reward) if _shows(prompt) else None for reward, prompt in zip(rewards, prompts, strict=True)]

    def _judged(self, rows: Sequence[Mapping[str, Any]], completion_ids: Sequence[Sequence[int]]) -> list[Rollout]:
        """Each response, decoded and judged against its row."""
        responses = [self._response(ids) for ids in completion_ids]
        return [Rollout(text, judge(row, text, why)) for row, (text, why) in zip(rows, responses, strict=True)]

    def _response(self, ids: Sequence[int]) -> tuple[str, FinishReason]:
        """The response as the model wrote it, with tags that are special tokens, without what ends its turn."""
        ending = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        end = len(ids)
        while end and ids[end - 1] in ending:
            end -= 1
        text: str = self._tokenizer.decode(list(ids[:end]), skip_special_tokens=False)
        return text, "stop" if end < len(ids) else "length"

    @torch.no_grad()
    def _attention_ratios(self, prompts: Sequence[Any], completion_ids: Sequence[Sequence[int]]) -> Tensor:
        """The attention rewards that have a weight, of each response as if it were right [responses, rewards].

        From TRL's pass of the policy if it has made one. nan where the prompt has no image, or where that pass did not
        see the response (mask_truncated_completions).
        """
        if self._looked:
            return torch.cat(self._looked)
        if self._ratios is not None:
            return self._ratios
        training, args = self.model.training, self.args
        size = args.per_device_train_batch_size if training else args.per_device_eval_batch_size
        parts = []
        self.model.eval()  # no dropout, no random numbers
        try:
            for start in range(0, len(prompts), size):
                inputs, _ = self._encoded([{"prompt": prompt} for prompt in prompts[start : start + size]])
                whole = with_responses(inputs, completion_ids[start : start + size])
                width = inputs["input_ids"].shape[1]
                with self.accelerator.autocast():
                    parts.append(self._measured(whole | {"use_cache": False, "logits_to_keep": 1}, width)[1])
        finally:
            self.model.train(training)
        ratios = torch.cat(parts)
        if len(self._attention_rewards) > 1:
            self._ratios = ratios
        return ratios

    def _generate(self, prompts: Any) -> Any:
        """TRL's responses. A prompt without an image, in a batch with some, has the images []: TRL 1.16 gives None,
        which the processor does not take."""
        *generated, images, tool_images = super()._generate(prompts)
        return *generated, images and [own or [] for own in images], tool_images

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        """TRL's batch of responses and advantages. A pass of the policy that it makes on the way is measured.

        Raises AttentionTrainingError if processes that share weights would not all see images: TRL shuffles the batch
        before it cuts it into passes.
        """
        refuse_uneven_images(self, [bool(_images(row)) for row in inputs], shuffled=True)
        self._looked = []
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            self._looked = None
        if "importance_sampling_ratio" in batch:
            self._log_response_weights(batch["importance_sampling_ratio"], batch["completion_mask"])
        return batch

    def _log_response_weights(self, ratio: Tensor, mask: Tensor) -> None:
        """Quantiles, over all processes, of what TRL's correction for vLLM multiplies responses by; warn, once, where
        half of them are hardly learnt from."""
        quantiles = weight_quantiles(self.accelerator.gather(response_weights(ratio, mask)))
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in quantiles.items():
            metrics[f"sampling/response_weight/{name}"].append(value)
        median = quantiles.get("p50", 1.0)
        if median >= COLLAPSED or self._warned_of_weights:
            return
        self._warned_of_weights = True
        warnings.warn(
            f"half of the responses are multiplied by less than {median:.2g} in the loss: "
            f"vllm_importance_sampling_mode {self.vllm_importance_sampling_mode} punishes long responses for the "
            "difference between vLLM's and the trainer's log-probabilities. Set vllm_importance_sampling_correction to "
            "false (Eq. 10), or the mode to token_truncate",
            stacklevel=2,
        )

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        """TRL's log-probabilities [batch, logits_to_keep]; before the rewards, the policy's masses are kept as well."""
        looked, run = self._looked, model
        if looked is not None and self._attention_rewards and self._answers_alike(model):
            width = input_ids.shape[1] - logits_to_keep

            def measured(**inputs: Any) -> Any:
                outputs, ratios = self._measured(inputs, width)
                looked.append(ratios)
                return outputs

            run = measured

        def passed(**inputs: Any) -> Any:
            # a pass of rows without an image, of a batch with some: TRL 1.16 gives it empty pictures, on which
            # Qwen2.5-VL fails
            return run(**{name: of for name, of in inputs.items() if not (isinstance(of, Tensor) and of.numel() == 0)})

        return super()._get_per_token_logps_and_entropies(
            passed, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )

    def _answers_alike(self, model: Any) -> bool:
        """Whether a pass of `model` as it stands is the policy's as it answers: not the reference's, without dropout.

        The reference of a policy with adapters is the same object with its adapters off, or with others on.
        """
        if model is not self.model:
            return False
        if is_peft_model(model) and _adapters(model) != self._own_adapters:
            return False
        attention_dropout = model.config.get_text_config().to_dict().get("attention_dropout")
        return not (model.training and (attention_dropout or any(map(_drops, model.modules()))))

    def _measured(self, inputs: Mapping[str, Any], width: int) -> tuple[Any, Tensor]:
        """One pass of the policy: what it returns, and its attention rewards [batch, rewards] (`_attention_ratios`).

        inputs: of the model, prompts left-padded to `width` tokens and then their responses, right-padded.
        """
        roles = self._roles(inputs["input_ids"], inputs["attention_mask"], width)
        with observe(
            self.model,
            roles,
            queries="response",
            groups=("image", "system"),
            layers=self.args.attention_layers,
            reduce_heads=True,
        ) as observation:
            outputs = self.model(**inputs)
        answered = roles.mask(Role.RESPONSE)[:, width:].any(-1)
        unknown = ~(answered & roles.mask(Role.IMAGE).any(-1))
        if bool(unknown.all()):
            return outputs, torch.full((len(unknown), len(self._attention_rewards)), float("nan"))
        masses = observation.masses()
        if observation.pool_layers:
            masses = pooled(masses)
        image, system = masses.cpu().unbind(-1)
        # earlier answers in the prompt have the role of a response, too
        generated = observation.query_mask(Role.RESPONSE) & (torch.tensor(observation.positions) >= width)
        ratios = [ATTENTION_REWARDS[name](image, system, generated) for name in self._attention_rewards]
        return outputs, torch.stack(ratios, -1).masked_fill(unknown[:, None], float("nan"))

    def _roles(self, input_ids: Tensor, attention_mask: Tensor, width: int) -> TokenRoles:
        """Roles of prompts of `width` tokens and responses, whatever tokens a response has. Both [batch, sequence]."""
        present = attention_mask.bool()
        prompts, responses = (
            [ids[of].tolist() for ids, of in zip(input_ids[:, part], present[:, part], strict=True)]
            for part in (slice(width), slice(width, None))
        )
        roles = batch_roles(self._markup, prompts, responses, width, input_ids.shape[1])
        if self.args.visual_weight and not bool(roles.mask(Role.SYSTEM).any(-1).all()):
            raise AttentionTrainingError(
                "a prompt has no system turn, so r_visual (Eq. 7) has no denominator: begin every prompt with a system "
                "message, or set visual_weight to 0"
            )
        return roles

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

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        """TRL's table of rewards [responses of all processes, rewards], after logging what each is of the total."""
        # once for all rewards: comparing answers symbolically may take seconds
        self._rollouts, self._ratios = self._judged(inputs, completion_ids_list), None
        rewards: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._looked = None  # passes to come are no concern of the rewards
        weighted = (rewards * self.reward_weights.to(rewards.device)).nan_to_num(0.0).sum(0)
        total = float(weighted.sum())
        if total > 0:
            shares = dict(zip(self._used, (weighted / total).tolist(), strict=True))
            metrics = self._metrics["train" if self.model.training else "eval"]
            for name, share in shares.items():
                metrics[f"reward_share/{name}"].append(share)
            for name in self._attention_rewards:
                self._warn_if_dominant(name, shares[name])
        return rewards

    def _warn_if_dominant(self, name: str, share: float) -> None:
        if share <= _DOMINANT or self._warned:
            return
        self._warned = True
        weight = f"{name}_weight"
        warnings.warn(
            f"r_{name} makes up {share:.0%} of the total reward: among right answers the model is then trained to "
            f"look, whatever it says. It has no upper bound: set visual_cap, or lower {weight} (now "
            f"{getattr(self.args, weight)})",
            stacklevel=2,
        )


def _with_images(row: Mapping[str, Any]) -> Any:
    """A row's messages with their images in place; those of a prompt that TRL has prepared are there already."""
    from trl.data_utils import prepare_multimodal_messages

    return prepare_multimodal_messages(row["prompt"], images=_images(row))


def _images(row: Mapping[str, Any]) -> list[Any]:
    return row.get("images") or ([row["image"]] if row.get("image") is not None else [])


def _shows(prompt: Any) -> bool:
    """Whether a prompt as TRL has prepared it has an image."""
    return any(
        isinstance(turn["content"], list) and any(part["type"] == "image" for part in turn["content"])
        for turn in prompt
    )


def _drops(module: nn.Module) -> bool:
    return isinstance(module, nn.Dropout) and module.p > 0


def _adapters(model: Any) -> tuple[bool | str, list[str]]:
    """Whether adapters are on, and which."""
    status = model.get_model_status()
    return status.enabled, status.active_adapters
