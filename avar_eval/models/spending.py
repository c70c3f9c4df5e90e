"""What requests cost, kept below a limit whatever is under way: each reserves what it may cost at worst."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from avar_eval.models.backend import BackendError
from avar_eval.records.record import Usage

_ROUNDING: Final = 1e-9
"""Share of the limit that sums of floats may be off by."""


class CostLimitError(BackendError):
    """The money that a run may cost is spent.

    What to do: Raise the limit to go on: what was answered and paid for is kept.
    """


@dataclass
class Reservation:
    """Dollars set aside for one request; cost is what it did cost, None where it cost nothing that is known."""

    most: float
    cost: float | None = None


class Spending:
    """Dollars spent by one run. price: dollars a million tokens of prompt and of response, None: nothing is counted."""

    def __init__(self, price: tuple[float, float] | None, limit: float | None) -> None:
        self.spent = 0.0
        self._price, self._limit = price, limit
        self._reserved = 0.0
        self._under_way = 0
        self._dearer: float | None = None
        """How many times the worst estimate a request has cost, at most; None: none is known."""
        self._headroom = asyncio.Condition()

    def begin(self) -> None:
        """Be ready for another event loop."""
        self._headroom = asyncio.Condition()

    def cost(self, usage: Usage) -> float:
        """Dollars."""
        per_prompt, per_response = self._price or (0.0, 0.0)
        return (usage.prompt_tokens * per_prompt + usage.completion_tokens * per_response) / 1e6

    def recall(self, usage: Usage) -> None:
        """Count what an earlier run has spent."""
        self.spent += self.cost(usage)

    @asynccontextmanager
    async def reserved(self, worst: Usage) -> AsyncIterator[Reservation]:
        """Room for a request of at most so many tokens; within, `cost` is set to what it did cost.

        A server may count more than any estimate: the first request goes alone, and the others reserve as many times
        their estimate as the dearest one so far has cost. Waits for what is under way to cost less than it might.
        Raises CostLimitError when nothing is under way and there is no room.
        """
        async with self._headroom:
            while not self._fits(self._most(worst)):
                if not self._under_way:
                    raise self._exhausted(self._most(worst))
                await self._headroom.wait()
            reservation = Reservation(self._most(worst))
            self._reserved += reservation.most
            self._under_way += 1
        try:
            yield reservation
        finally:
            # Nothing is awaited between these lines, so that a cancelled request gives its room back as well.
            self._reserved -= reservation.most
            self._under_way -= 1
            if reservation.cost is not None:
                self.spent += reservation.cost
                estimate = self.cost(worst)
                self._dearer = max(self._dearer or 0.0, reservation.cost / estimate if estimate else 0.0)
            async with self._headroom:
                self._headroom.notify_all()

    def _most(self, worst: Usage) -> float:
        return self.cost(worst) * max(1.0, self._dearer or 0.0)

    def _fits(self, most: float) -> bool:
        if self._limit is None:
            return True
        if self._under_way and self._dearer is None:
            return False
        used = self.spent + (self._reserved if self._under_way else 0.0)
        return used + most <= self._limit * (1 + _ROUNDING) and used < self._limit * (1 - _ROUNDING)

    def _exhausted(self, most: float) -> CostLimitError:
        return CostLimitError(
            f"the cost limit of {self._limit:g} dollars is reached ({self.spent:.4g} spent): one more request may cost "
            f"{most:.2g}. What is answered is kept, raise --api-cost-limit to go on"
        )
