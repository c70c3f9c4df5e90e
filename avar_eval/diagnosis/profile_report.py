"""Profiles as a table for the terminal, and as JSON."""

import json
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from avar_eval.attention.bands import vas_band
from avar_eval.console import wide_console
from avar_eval.diagnosis.profile import Profile
from avar_eval.results.run_table import number


def profile_to_json(profile: Profile) -> str:
    """The text of profile.json."""
    data = profile.model_dump(mode="json")
    return json.dumps({"schema": data.pop("schema_version"), **data}, indent=2, ensure_ascii=False) + "\n"


def print_profile(profile: Profile, picture: Path) -> None:
    """One row a model: both scores with intervals and band, and the shares of attention on image and system turn."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold", min_width=12)
    for heading in ("VAS", "VAS\n(response)", "image %\nquestion", "system %\nquestion", "image %\nanswer",
                    "system %\nanswer"):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for model in profile.models:
        vas = model.vas["user"]
        table.add_row(
            Text(model.label),
            number(vas, "" if vas.value is None else vas_band(vas.value)),
            number(model.vas["response"]),
            *(
                "–" if name not in model.share else f"{100 * model.share[name][role]:.1f}"
                for name in ("user", "response")
                for role in ("image", "system")
            ),
        )
    console = wide_console()
    console.print(table)
    console.print(
        f"the same {profile.models[0].n} questions of {', '.join(profile.tasks)}; below VAS its 95 % interval"
    )
    if profile.note is not None:
        console.print(f"note: {profile.note}", highlight=False, soft_wrap=True)
    console.print(f"picture and profile.json: {picture}", highlight=False, soft_wrap=True)
