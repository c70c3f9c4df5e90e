"""A named protocol as a run is asked under it: what of it was changed by the call, and what its card says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avar_eval.errors import UsageError
from avar_eval.protocols.protocol import PublishedProtocol, find_protocol
from avar_eval.run.asking import Asking
from avar_eval.tasks.catalog import TaskEntry
from avar_eval.tasks.prompts import Style


@dataclass(frozen=True)
class NamedProtocol:
    """changed: settings that the call has otherwise, each with the protocol's value and the chosen one.

    style: the prompt style that was chosen in the place of the protocol's prompts, if one was.
    """

    protocol: PublishedProtocol
    changed: Mapping[str, tuple[Any, Any]]
    style: Style | None

    @classmethod
    def of(cls, asking: Asking) -> "NamedProtocol | None":
        """The protocol that a call names. Raises UsageError for an unknown one."""
        if asking.protocol is None:
            return None
        if asking.uniform_prompts:
            raise UsageError("--protocol says how every model is asked: leave out --uniform-prompts")
        protocol = find_protocol(asking.protocol)
        return cls(protocol, dict(_changed(protocol, asking)), asking.prompt_style)

    @property
    def name(self) -> str:
        """Its name, `custom` if anything of it was changed."""
        return "custom" if self.changed else self.protocol.name

    def prompt_settings(self, task: TaskEntry) -> dict[str, str]:
        """What a task's `doc_to_text` is told. Raises UsageError for a task of which the protocol says nothing."""
        of = self.protocol.of_task(task)
        return of.settings() if self.style is None else {"prompt_style": self.style}

    def card(self, tasks: list[TaskEntry]) -> dict[str, Any]:
        """What results.json says of it."""
        card: dict[str, Any] = {
            "name": self.name,
            "source": self.protocol.source,
            "verdict": {task.name: self.protocol.published_verdict(task) for task in tasks},
            "prompts": {task.name: self.prompt_settings(task) for task in tasks},
        }
        if self.changed:
            changed = {setting: {"protocol": own, "chosen": chosen} for setting, (own, chosen) in self.changed.items()}
            card |= {"based_on": self.protocol.name, "changed": changed}
        return card


def _changed(protocol: PublishedProtocol, asking: Asking) -> list[tuple[str, tuple[Any, Any]]]:
    chosen = [
        (name, getattr(protocol, name), getattr(asking, name)) for name in ("image_min_pixels", "image_max_pixels")
    ]
    chosen += [(name, (protocol.decoding or {}).get(name), value) for name, value in asking.decoding.items()]
    chosen = [(name, own, value) for name, own, value in chosen if own is not None]
    if protocol.sets_system_prompt:
        chosen.append(("system_prompt", protocol.system_prompt, asking.system_prompt))
    if any(of.style != asking.prompt_style for of in protocol.benchmarks.values()):
        chosen.append(("prompt_style", protocol.name, asking.prompt_style))
    limits = {of.max_new_tokens or protocol.max_new_tokens for of in protocol.benchmarks.values()} - {None}
    if limits and limits != {asking.decoding.get("max_new_tokens")}:
        own = limits.pop() if len(limits) == 1 else sorted(filter(None, limits))
        chosen.append(("max_new_tokens", own, asking.decoding.get("max_new_tokens")))
    return [(name, (own, value)) for name, own, value in chosen if value is not None and value != own]
