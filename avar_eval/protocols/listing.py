"""Protocols as tables for the terminal, and as JSON."""

import json
from collections.abc import Sequence

from avar_eval.protocols.protocol import PublishedProtocol
from avar_eval.tables import print_table
from avar_eval.terminal import say


def print_protocols(found: Sequence[PublishedProtocol], as_json: bool) -> None:
    """All of them, with what they are for and where they are published."""
    if as_json:
        say(json.dumps([one.model_dump(mode="json") for one in found], indent=2, ensure_ascii=False))
        return
    print_table(("protocol", "what it is", "source"), [(one.name, one.description, one.source) for one in found])


def print_protocol(one: PublishedProtocol, as_json: bool) -> None:
    """One of them, setting by setting."""
    fields = one.model_dump(mode="json", exclude_unset=True)
    if as_json:
        say(json.dumps(fields, indent=2, ensure_ascii=False))
        return
    benchmarks = fields.pop("benchmarks")
    if one.sets_system_prompt and one.system_prompt is None:
        fields["system_prompt"] = "the chat template's own"
    rows = [(name, "\n".join(value) if isinstance(value, list) else str(value)) for name, value in fields.items()]
    for name, of in benchmarks.items():
        rows.append((name, "\n".join(f"{setting}: {value}" for setting, value in of.items())))
    print_table(("field", "value"), rows)
