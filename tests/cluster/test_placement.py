"""How many workers there is room for, and what each takes, by what the nodes of a cluster have."""

from typing import Any, cast

import pytest

from avar_eval.cluster.ray_workplace import Opening, RayCluster, RayWorkplace
from avar_eval.errors import UsageError
from avar_eval.models.backend_options import BackendOptions, TransformersOptions, VllmOptions
from avar_eval.models.checkpoint import find_source

BOX = {"CPU": 64.0, "GPU": 8.0}
SMALL = {"CPU": 16.0, "GPU": 3.0}
LAPTOP = {"CPU": 2.0}


class Known(RayCluster):
    """A cluster of these nodes."""

    def __init__(self, *nodes: dict[str, float]) -> None:
        self._nodes = list(nodes)

    def nodes(self) -> list[dict[str, float]]:
        return self._nodes


def workplace(
    nodes: tuple[dict[str, float], ...],
    options: BackendOptions | None = None,
    device: str | None = None,
    number: int | None = None,
) -> RayWorkplace:
    source = find_source("avar-tiny")
    opening = Opening(source, options or TransformersOptions(), device, "float32", None, None, "", 1)
    return RayWorkplace(Known(*nodes), opening, number)


@pytest.mark.parametrize(
    ("nodes", "given", "room"),
    [
        ((BOX,), {}, 8),
        ((BOX, SMALL), {}, 11),
        ((BOX, SMALL), {"options": VllmOptions(tensor_parallel=2)}, 5),
        ((BOX, SMALL), {"options": VllmOptions(tensor_parallel=2, data_parallel=2)}, 2),
        ((BOX, SMALL), {"options": VllmOptions(engine_args={"pipeline_parallel_size": "4"})}, 2),
        ((SMALL, SMALL), {"options": VllmOptions(tensor_parallel=6, distributed="ray")}, 1),
        ((BOX, LAPTOP), {"device": "cpu"}, 17),
        ((LAPTOP,), {}, 1),
        ((LAPTOP, LAPTOP, {"memory": 1.0}), {}, 2),
        ((BOX,), {"number": 3}, 3),
    ],
)
def test_room_is_what_the_nodes_have(nodes: tuple[dict[str, float], ...], given: dict[str, Any], room: int) -> None:
    assert workplace(nodes, **given).room() == room


def test_an_engine_that_no_node_can_hold_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"takes 6 GPUs.*--distributed ray"):
        workplace((SMALL, SMALL), VllmOptions(tensor_parallel=6))


@pytest.mark.parametrize(("number", "cpus"), [(None, 1.0), (2, 1.0), (4, 0.5), (3, 0.66)])
def test_workers_share_cpus_where_more_are_asked_for(number: int | None, cpus: float) -> None:
    assert cast(Any, workplace((LAPTOP,), number=number))._cpus() == cpus
