"""Pages that follow from the code: mkdocs calls this as a hook, nothing of it is committed.

Each command's options (typer's own pages of them), each benchmark's module docstring, each recipe with what `avar-train
check` says of its batch and with what it gave here, the fields of the files that a run writes, each error with what to
do, the public names, Contributing, and llms.txt.
"""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from io import StringIO
from pathlib import Path
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """The generated pages, beside those that are written."""
    from mkdocs.structure.files import File

    pages = {
        "commands.md": commands(),
        "benchmarks.md": benchmarks(),
        "recipes.md": recipes(),
        "files.md": schemas(),
        "errors.md": errors(),
        "reference.md": reference(),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    for picture in curves(config):
        files.append(picture)
    return files


def on_post_build(config: "MkDocsConfig") -> None:
    """llms.txt: the pages by their titles, for language models (llmstxt.org)."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    for part in config.nav or []:
        for title, inside in part.items():
            entries = inside if isinstance(inside, list) else [{title: inside}]
            lines += [f"## {title}", ""]
            lines += [f"- [{name}]({Path(page).stem}.html)" for entry in entries for name, page in entry.items()]
            lines.append("")
    Path(config.site_dir, "llms.txt").write_text("\n".join(lines), encoding="utf-8")


def commands() -> str:
    """What `--help` says of every command of the three programs."""
    import typer
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    parts = ["# Commands", "What `--help` says, of every command."]
    for program, module in (
        ("avar-eval", "avar_eval.cli"),
        ("avar-train", "avar_eval.recipes.cli"),
        ("avar-leaderboard", "avar_eval.leaderboard.cli"),
    ):
        command = get_command(import_module(module).app)
        page = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name=program), name=program)
        # outside of code spans "<" would begin HTML
        page = re.sub(r"(`[^`]*`)|<", lambda found: found[1] or "&lt;", page)
        parts.append(re.sub(r"^#", "##", page, flags=re.MULTILINE))
    return "\n\n".join(parts) + "\n"


def benchmarks() -> str:
    """Each benchmark: an item, data set and revision, the rule, what it was verified against; its docstring."""
    from avar_eval.tasks.catalog import catalog

    parts = ["# Benchmarks", "As each benchmark's module says it."]
    for folder in sorted({entry.folder for entry in catalog().values()}):
        names = ", ".join(f"`{name}`" for name, entry in catalog().items() if entry.folder == folder)
        told = (import_module(f"avar_eval.tasks.{folder}").__doc__ or "").strip()
        parts += [f"## {folder}", f"Tasks: {names}", told]
    return "\n\n".join(parts) + "\n"


def recipes() -> str:
    """Every recipe as it is shipped, and the ladders that put them side by side."""
    from avar_eval.recipes.ladder import shipped_ladders
    from avar_eval.recipes.plan import plan
    from avar_eval.recipes.recipe import read_recipe, shipped

    parts = ["# Recipes", "`avar-train sft|grpo NAME` runs one; `avar-train check NAME` says what it needs."]
    measured = _measured()
    for name, path in shipped().items():
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        parts += [f"## {name}", content["recipe"]["description"] + ".", *measured.get(name, [])]
        # without what is said of the machine that builds these pages
        planned = "\n".join(line for line in plan(read_recipe(name)).splitlines() if line.split()[:1] != ["disk"])
        parts += [_code(planned, "text"), _code(path.read_text(encoding="utf-8"), "yaml")]
    parts.append("## Ladders")
    for name, path in shipped_ladders().items():
        parts += [f"### {name}", _code(path.read_text(encoding="utf-8"), "yaml")]
    return "\n\n".join(parts) + "\n"


def _measured() -> dict[str, list[str]]:
    """What recipes of the embedded world gave here: rows of the ladder's table, and curves of their training."""
    from avar_eval.recipes.ladder import read_ladder

    page = (ROOT / "docs" / "embedded-world.md").read_text(encoding="utf-8")
    heading, rule, *rows = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)[0].splitlines()
    recipes: dict[str, list[str]] = {}
    for rung in read_ladder("tiny").rungs:
        recipes.setdefault(rung.recipe, []).extend(row for row in rows if row.startswith(f"| {rung.title} |"))
    found = {name: ["\n".join([heading, rule, *mine]), _LADDER] for name, mine in recipes.items() if mine}
    for name, run in json.loads((ROOT / "docs" / "curves.json").read_text(encoding="utf-8")).items():
        told = f"`{run['command']}`, {run['machine']}, {run['date']}; a line a seed"
        found.setdefault(name, []).append(
            f"![The training's log over its steps: {told}](pictures/curve-{name}.svg)\n\n{told}."
        )
    return found


_LADDER = "`avar-train ladder --output DIR`; how it was measured: [the embedded world](embedded-world.md)."


def curves(config: "MkDocsConfig") -> Iterator["File"]:
    """A picture of each training whose log is kept in curves.json."""
    from matplotlib.figure import Figure
    from mkdocs.structure.files import File

    from avar_eval.figures.style import SERIES, SMALL, drawing

    for name, run in json.loads((ROOT / "docs" / "curves.json").read_text(encoding="utf-8")).items():
        logs = list(run["seeds"].values())
        columns = [column for column in logs[0] if column != "step"]
        with drawing():
            figure = Figure(figsize=(2.2 * len(columns), 1.6), layout="constrained")
            for axes, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
                for seed, colour in zip(logs, SERIES, strict=False):
                    axes.plot(seed["step"], seed[column], color=colour, linewidth=0.9)
                axes.set_title(column, fontsize=SMALL)
                axes.set_xlabel("step", fontsize=SMALL)
            text = StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
        yield File.generated(config, f"pictures/curve-{name}.svg", content=text.getvalue())


def errors() -> str:
    """Each error that the programs print, from its docstring."""
    parts = [
        "# Errors",
        "A program prints an error as one message that says what to do, without a traceback, and ends with its exit "
        "code. From Python they are raised, all of them `avar_eval.errors.AvarError`.",
        "| error | what it means | what to do | exit code |",
    ]
    rows = [parts.pop(), "|---|---|---|---|"]
    for kind in error_classes():
        meaning, _, advice = " ".join((kind.__doc__ or "").split()).partition("What to do: ")
        name = f"[`{kind.__name__}`](#{kind.__name__.lower()}){{ #{kind.__name__.lower()} title='{kind.__module__}' }}"
        rows.append(f"| {name} | {meaning.strip()} | {advice} | {kind.exit_code} |")
    return "\n\n".join([*parts, "\n".join(rows)]) + "\n"


def error_classes() -> list[Any]:
    """All kinds of AvarError, by name. Modules that need vLLM define none."""
    import avar_eval
    from avar_eval.errors import AvarError

    def kinds(of: Any) -> Iterator[Any]:
        for kind in of.__subclasses__():
            yield kind
            yield from kinds(kind)

    for module in walk_packages(avar_eval.__path__, "avar_eval."):
        source = Path(module.module_finder.path, *module.name.split(".")[-1:])  # type: ignore[union-attr]
        text = (source / "__init__.py" if module.ispkg else source.with_suffix(".py")).read_text(encoding="utf-8")
        if re.search(r"^class \w+\(\w*Error\)", text, re.MULTILINE):
            import_module(module.name)
    return sorted(
        {kind for kind in kinds(AvarError) if kind.__module__.startswith("avar_eval.") and kind.__name__[0] != "_"},
        key=_by_name,
    )


def _by_name(kind: Any) -> tuple[str, str]:
    return kind.__name__, kind.__module__


def reference() -> str:
    """The public names, as mkdocstrings shows them."""
    import avar_eval

    parts = ["# Python reference", (avar_eval.__doc__ or "").strip()]
    parts += [f"::: avar_eval.{name}" for name in avar_eval.__all__ if name != "__version__"]
    return "\n\n".join(parts) + "\n"


def schemas() -> str:
    """The fields of a run's files, from the models that read and write them, or as the modules that do so tell them."""
    from avar_eval.records import attention, causal
    from avar_eval.records.record import ProtocolLine, Record
    from avar_eval.results.schema import Results

    told: list[tuple[str, type[BaseModel]]] = [
        ("results.json", Results),
        ("records.jsonl, altered.jsonl and waiting.jsonl, a line", Record),
        ("protocols.jsonl, a line", ProtocolLine),
    ]
    parts = ["# Files of a run"]
    for title, model in told:
        parts += [f"## {title}", *_fields(model.model_json_schema(by_alias=True))]
    for name, module in (("attention", attention), ("causal", causal)):
        parts += [f"## {name}.jsonl, a line", _code((module.__doc__ or "").strip(), "text")]
    return "\n\n".join(parts) + "\n"


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    named = {schema["title"]: schema} | schema.get("$defs", {})
    for title, part in named.items():
        if "properties" not in part:
            continue
        rows = [f"| `{name}` | {_type(field)} |" for name, field in part["properties"].items()]
        yield f"### {title.partition('[')[0]}"
        yield (part.get("description") or "").strip()
        yield "\n".join(["| field | type |", "|---|---|", *rows])


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2].partition("_")[0]
    if "anyOf" in field:
        return " or ".join(map(_type, field["anyOf"]))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{json.dumps(value)}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    if field.get("type") == "object" and "additionalProperties" in field:
        inner = field["additionalProperties"]
        return "object" if inner is True else f"object of {_type(inner)}"
    return str(field.get("type", "anything"))


def _code(text: str, language: str) -> str:
    return f"```{language}\n{text.strip()}\n```"
