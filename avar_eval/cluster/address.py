"""`--cluster`: which Ray cluster. Light."""

from typing import Final

LOCAL: Final = "ray"
_PREFIX: Final = "ray://"


def check_cluster(given: object) -> object:
    """`ray`, `ray://HOST:PORT` or `ray://auto` (`auto` in short). Raises ValueError for another text."""
    if not isinstance(given, str) or given == LOCAL:
        return given
    if given == "auto":
        return f"{_PREFIX}auto"
    address = given.removeprefix(_PREFIX)
    host, colon, port = address.rpartition(":")
    if given.startswith(_PREFIX) and (address == "auto" or (host and colon and port.isdecimal())):
        return given
    raise ValueError(
        "give ray for a cluster on this machine, ray://HOST:PORT as `ray start --head` says it, or ray://auto for the "
        "cluster that this machine is a node of"
    )


def ray_address(cluster: str) -> str | None:
    """As `ray.init` takes it; None: a cluster of this machine's own."""
    return None if cluster == LOCAL else cluster.removeprefix(_PREFIX)
