"""Pages that follow from the code: mkdocs calls this as a hook, nothing of it is committed.

Each command's options (typer's own pages of them), each benchmark's module docstring, each recipe with what `avar-train
check` says of its batch, the fields of the files that a run writes, and llms.txt.
"""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The generated pages, beside those that are written."""
    pages = {"commands.md": commands(), "benchmarks.md": benchmarks(), "recipes.md": recipes(), "files.md": schemas()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_post_build(config: MkDocsConfig) -> None:
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
    for name, path in shipped().items():
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        parts += [f"## {name}", content["recipe"]["description"] + "."]
        # without what is said of the machine that builds these pages
        planned = "\n".join(line for line in plan(read_recipe(name)).splitlines() if line.split()[:1] != ["disk"])
        parts += [_code(planned, "text"), _code(path.read_text(encoding="utf-8"), "yaml")]
    parts.append("## Ladders")
    for name, path in shipped_ladders().items():
        parts += [f"### {name}", _code(path.read_text(encoding="utf-8"), "yaml")]
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
        parts += [f"## {title}", *_fields(model.model_json_schema(mode="serialization", by_alias=True))]
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
