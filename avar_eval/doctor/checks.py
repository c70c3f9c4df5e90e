"""What the doctor finds: one `Check` a line. A check that cannot be made, or goes wrong, never ends the others."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import BaseModel

Value = bool | int | float | str
Status = Literal["measured", "unavailable", "failed"]


class Check(BaseModel):
    """value: None if there is none. bar: what it must keep; None if nothing. why: what it is of, or what went wrong."""

    name: str
    status: Status
    value: Value | None = None
    unit: str | None = None
    bar: bool | float | None = None
    why: str | None = None


class UnavailableError(Exception):
    """What is to be checked is not there on this machine; the message says why."""


class Checks:
    """The checks of one report, as they are made."""

    def __init__(self) -> None:
        self.made: list[Check] = []

    def add(
        self, name: str, value: Value, unit: str | None = None, bar: bool | float | None = None, why: str | None = None
    ) -> None:
        """A measured value; it failed if it is not the one that must be, or above the bar (or not a number)."""
        if isinstance(value, float) and not math.isfinite(value):
            self.made.append(Check(name=name, status="failed", unit=unit, bar=bar, why=f"it came to {value}"))
            return
        kept = bar is None or (value is bar if isinstance(bar, bool) else not isinstance(value, str) and value <= bar)
        status: Status = "measured" if kept else "failed"
        if not kept:
            missed = "must be so" if isinstance(bar, bool) else f"the bar is {bar:g}"
            why = missed if why is None else f"{missed}; {why}"
        self.made.append(Check(name=name, status=status, value=value, unit=unit, bar=bar, why=why))

    @contextmanager
    def attempt(self, *names: str) -> Iterator[None]:
        """Within this context these checks are to be made; if it ends early, those still missing say why."""
        try:
            yield
        except Exception as error:  # whatever a kernel, a library or a machine has to say is what the report is for
            status, why = _status_of(error)
            known = {check.name for check in self.made}
            self.made += [Check(name=name, status=status, why=why) for name in names if name not in known]

    def unavailable(self, why: str, names: Sequence[str]) -> None:
        """Checks that cannot be made here."""
        self.made += [Check(name=name, status="unavailable", why=why) for name in names]

    def counts(self) -> dict[Status, int]:
        """How many checks have each status."""
        statuses: tuple[Status, ...] = ("measured", "unavailable", "failed")
        return {status: sum(check.status == status for check in self.made) for status in statuses}


def _status_of(error: Exception) -> tuple[Status, str]:
    if isinstance(error, UnavailableError):
        return "unavailable", one_line(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "unavailable", f"there is not enough memory: {one_line(error)}"
    return "failed", f"{type(error).__name__}: {one_line(error)}"


def one_line(error: BaseException) -> str:
    """An error's message in one line."""
    return " ".join(str(error).split())[:300] or "no message"


def machine_and_checks(machine: dict[str, Any], checks: Checks) -> dict[str, Any]:
    """What `--json` prints."""
    return {"machine": machine, "checks": [check.model_dump() for check in checks.made]}
