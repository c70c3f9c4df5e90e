"""Which row of a steered engine's table holds which strengths, when requests bring their own."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from avar_eval.errors import AvarError
from avar_eval.models.vllm_plugin import VllmSteering

ROWS: Final = 256
"""A row's number has eight bits. Row 0 is the engine's own strengths."""


class SteeringRowsError(AvarError):
    """More different strengths are being prefilled at once than there are rows.

    What to do: Send fewer different strengths at once, or start the engine with more rows.
    """


class SteeringRows:
    """A table's rows, the one that was asked for longest ago given away first.

    A row is in use while a request with it has prompt tokens left to compute: they are scaled once, when they enter the
    KV cache, and generated tokens have no role. Nothing but the order of calls decides, so that the workers of one
    engine, which all see the same requests in the same order, number alike. write: puts strengths into a row.
    """

    def __init__(self, write: Callable[[int, VllmSteering], None], count: int = ROWS) -> None:
        self._write = write
        self._count = count
        self._row: OrderedDict[VllmSteering, int] = OrderedDict()
        self._prefilling: dict[str, VllmSteering] = {}

    def begin(self, request: str, steering: VllmSteering | None) -> int:
        """The row for a request whose prompt is about to be computed; None: the engine's own strengths.

        Raises SteeringRowsError if all rows are in use.
        """
        if steering is None:
            return 0
        if steering not in self._row:
            row = self._free()
            self._write(row, steering)
            self._row[steering] = row
        self._row.move_to_end(steering)
        self._prefilling[request] = steering
        return self._row[steering]

    def end(self, request: str) -> None:
        """A request's prompt is computed, or the request is gone. One that is not known has none of the rows."""
        self._prefilling.pop(request, None)

    def _free(self) -> int:
        if len(self._row) < self._count - 1:
            return len(self._row) + 1
        used = set(self._prefilling.values())
        oldest = next((steering for steering in self._row if steering not in used), None)
        if oldest is None:
            raise SteeringRowsError(
                f"more than {self._count - 1} different strengths are asked for at once: send fewer at a time"
            )
        return self._row.pop(oldest)
