"""Suites as processes, and what is in their folders."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from runs import Finished, Running, Server, records_of


@dataclass(frozen=True)
class Suites:
    """Starts suites whose runs are forked; asked: the keys of the questions that they have asked, one a line."""

    server: Server
    file: Path
    asked: Path

    def start(self, output: Path, *options: str, stands_at: Mapping[str, int] = MappingProxyType({})) -> Running:
        """stands_at: where its runs stand still, as `Server.start` has it."""
        return self.server.start(
            *("suite", str(self.file), "--output", str(output), *options),
            stands_at=stands_at,
            ASKED=str(self.asked),
            OMP_NUM_THREADS="1",
        )

    def run(self, output: Path, *options: str) -> Finished:
        return self.start(output, *options).wait()


def state(output: Path) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = json.loads((output / "suite.json").read_text(encoding="utf-8"))
    assert list(found) == ["runs"]
    return found["runs"]


def books(output: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of each run."""
    return {path.parent.name: records_of(path.parent) for path in sorted(output.glob("*/records.jsonl"))}
