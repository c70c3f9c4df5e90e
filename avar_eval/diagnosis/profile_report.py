"""Profiles as a table for the terminal, and as JSON."""

import json
from pathlib import Path

from avar_eval.console import wide_console
from avar_eval.diagnosis.profile import Profile
from avar_eval.number_format import percent
from avar_eval.results.cells import score_cell
from avar_eval.tables import Column, FittedTable


def profile_to_json(profile: Profile) -> str:
    """The text of profile.json."""
    data = profile.model_dump(mode="json")
    return json.dumps({"schema": data.pop("schema_version"), **data}, indent=2, ensure_ascii=False) + "\n"


def print_profile(profile: Profile, picture: Path, output: Path) -> None:
    """One row a model: both scores with intervals and band, and the shares of attention on image and system turn."""
    headings = ("VAS", "VAS (response)", "image % question", "system % question", "image % answer", "system % answer")
    table = FittedTable([Column("model", text=True, key=True), *map(Column, headings)])
    for model in profile.models:
        table.add_row(
            model.label,
            score_cell(model.vas["user"], model.band),
            score_cell(model.vas["response"]),
            *(
                percent(model.share.get(name, {}).get(role))
                for name in ("user", "response")
                for role in ("image", "system")
            ),
        )
    console = wide_console()
    console.print(table)
    console.print(
        f"the same {profile.models[0].n} questions of {', '.join(profile.tasks)}; in brackets: 95 % intervals"
    )
    if profile.note is not None:
        console.print(f"note: {profile.note}", highlight=False, soft_wrap=True)
    console.print(f"picture: {picture}", soft_wrap=True)
    console.print(f"numbers: {output / 'profile.json'}", soft_wrap=True)
