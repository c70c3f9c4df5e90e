"""`avar-eval protocols`: named protocols listed, shown and compared."""

import json
from typing import Annotated

import typer

from avar_eval.help_text import examples
from avar_eval.terminal import say


@examples(
    "avar-eval protocols",
    "avar-eval protocols vlmevalkit",
    "avar-eval protocols diff vlmevalkit lmms-eval",
)
def protocols(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME | diff A B]", help="One protocol, or two to compare.", show_default="all"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the named protocols with their sources, show one, or say what differs between two (`diff A B`)."""
    from avar_eval.errors import UsageError
    from avar_eval.protocols.difference import differences
    from avar_eval.protocols.listing import print_protocol, print_protocols
    from avar_eval.protocols.protocol import find_protocol
    from avar_eval.protocols.protocol import protocols as all_protocols

    given = words or []
    if given[:1] == ["diff"]:
        if len(given) != 3:
            raise UsageError("avar-eval protocols diff takes two names: avar-eval protocols diff vlmevalkit lmms-eval")
        found = differences(find_protocol(given[1]), find_protocol(given[2]))
        if as_json:
            say(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            say("\n".join(found) or f"{given[1]} and {given[2]} ask and judge alike")
    elif not given:
        print_protocols(list(all_protocols().values()), as_json)
    elif len(given) == 1:
        print_protocol(find_protocol(given[0]), as_json)
    else:
        raise UsageError("avar-eval protocols takes one name, or diff and two names")
