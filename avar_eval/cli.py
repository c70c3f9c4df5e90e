"""`avar-eval`: the command line. Thin; nothing heavy is imported before a command needs it."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from avar_eval.ablate.cli import ablate
from avar_eval.command_line import (
    IncludeOption,
    JudgeKeyOption,
    JudgeOption,
    JudgeRateOption,
    JudgeUrlOption,
    command_text,
    interruptible,
    main_command,
    new_app,
    run_app,
)
from avar_eval.completion import complete_tasks
from avar_eval.data_cli import data_app
from avar_eval.diagnosis.cli import correlate, profile
from avar_eval.doctor.cli import doctor
from avar_eval.errors import UsageError
from avar_eval.help_text import examples
from avar_eval.judge.model import judge_from_options
from avar_eval.look.cli import look
from avar_eval.names import listed_names
from avar_eval.power.cli import power
from avar_eval.protocols.cli import protocols
from avar_eval.ranks import launched
from avar_eval.run.asking import Asking, asking_fields
from avar_eval.run.options import As, asking_options
from avar_eval.score.cli import compare, score
from avar_eval.suite.cli import suite
from avar_eval.sweep.cli import sweep
from avar_eval.terminal import say
from avar_eval.view_cli import view
from avar_eval.watch.cli import watch

app = new_app("Score vision-language reasoning models, and measure where they look.")


@examples(
    "avar-eval --model avar-tiny --tasks shapes",
    "avar-eval run -m Qwen/Qwen2.5-VL-7B-Instruct -t mathvista,mmmu --backend vllm --limit 100",
    "avar-eval --model avar-tiny --tasks shapes --steer image=0.15,system=0.4 --output avar-runs/steered",
)
@asking_options(*asking_fields(), model=As(required=False))
def run(
    *,
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks", "-t", autocompletion=complete_tasks, help="Names of tasks or groups, separated by commas."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for records and results.", show_default="avar-runs/MODEL and its settings"),
    ] = None,
    asked: Mapping[str, Any],
    include_path: IncludeOption = None,
    judge: JudgeOption = None,
    judge_url: JudgeUrlOption = None,
    judge_key_env: JudgeKeyOption = None,
    judge_rate: JudgeRateOption = 10.0,
    attribute: Annotated[
        str | None,
        typer.Option(help="Then change one setting after the other to this protocol's, and say what each one does."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json and nothing else.")] = False,
) -> None:
    """Ask MODEL the questions of TASKS; print accuracy and Visual Attention Score. Run again to resume."""
    if not asked["model"] or not tasks:
        raise UsageError("give --model and --tasks; `avar-eval models` and `avar-eval tasks` list what there is")
    asking = Asking.of(**asked)
    judge_model = judge_from_options(judge, judge_url, judge_key_env, judge_rate)
    # Libraries print, and standard output is for the results.
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.run.evaluate import RunConfig, evaluate
        from avar_eval.run.folder import run_folder
        from avar_eval.run.model import resolve

        model = resolve(asking)
        output = output or run_folder(model) / (f"to-{attribute}" if attribute else "")
        command = command_text(sys.argv[1:])
        if attribute is not None:
            from avar_eval.run.attribution import attribute as attribute_steps

            steps = attribute_steps(asking, attribute, listed_names(tasks), output, judge_model, command)
        else:
            results = evaluate(RunConfig(model, listed_names(tasks), output, judge=judge_model, command=command))
    if not launched().first:
        return
    if attribute is not None:
        from avar_eval.run.attribution_report import print_steps

        print_steps(steps, output, as_json)
        return
    if as_json:
        say(results.to_json(), end="")
        return
    from avar_eval.results.run_table import print_results

    print_results(results, output)


app.command()(run)
app.callback(invoke_without_command=True)(main_command(run))


@app.command()
@examples(
    "avar-eval models",
    "avar-eval models avar-thinker --json",
)
def models(
    name: Annotated[str | None, typer.Argument(help="Show this one's entry.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the registered models, or show one."""
    from avar_eval.listings import print_model, print_models
    from avar_eval.models.registry import get_model, registry

    if name is None:
        print_models(list(registry().values()), as_json)
    else:
        print_model(get_model(name), as_json)


@app.command()
@examples(
    "avar-eval tasks",
    "avar-eval tasks --all",
)
def tasks(
    include_path: IncludeOption = None,
    all_tasks: Annotated[bool, typer.Option("--all", help="Those that lmms-eval brings, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the tasks and groups of tasks."""
    from avar_eval.listings import print_tasks
    from avar_eval.tasks.catalog import catalog
    from avar_eval.tasks.groups import groups
    from avar_eval.tasks.lmms_eval_names import lmms_eval_files

    others = lmms_eval_files() if all_tasks else {}
    print_tasks(list(catalog().values()), list(groups().values()), others, as_json)


for command in (protocols, view, look, compare, score, suite, sweep, ablate, profile, correlate, watch, power, doctor):
    app.command()(command)
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point of `avar-eval`."""
    run_app(app, "avar-eval")


if __name__ == "__main__":  # `accelerate launch -m avar_eval.cli`
    main()
