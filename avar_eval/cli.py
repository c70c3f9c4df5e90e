"""`avar-eval`: the command line. Thin; nothing heavy is imported before a command needs it."""

import contextlib
import errno
import io
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from avar_eval import __version__
from avar_eval.data_cli import data_app
from avar_eval.errors import AvarError, UsageError
from avar_eval.judge.model import judge_from_options
from avar_eval.names import listed_names
from avar_eval.watch.cli import watch_command

if TYPE_CHECKING:
    from avar_eval.attention.steering import Steering
    from avar_eval.models.registry import BackendName
    from avar_eval.tasks.prompts import Style


_CANNOT_WRITE: Final = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def new_app(help: str) -> typer.Typer:
    """A command line of ours: plain help, and errors for `run_app` to print."""
    return typer.Typer(
        no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=help
    )


app = new_app("Score vision-language reasoning models, and measure where they look.")
app.add_typer(data_app, name="data")
app.command("watch")(watch_command)


LimitOption = Annotated[int | None, typer.Option(min=1, help="Ask only the first N questions of each task.")]
BatchSizeOption = Annotated[int | None, typer.Option(min=1, help="Questions a batch.", show_default="the model's")]
TokenLimitOption = Annotated[
    int | None, typer.Option(min=1, help="Token limit of a response.", show_default="the model's")
]
DeviceOption = Annotated[str | None, typer.Option(help="Such as cuda, cuda:1, cpu.", show_default="what is there")]
DtypeOption = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16.", show_default="bfloat16 on a GPU, else float32")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(envvar="AVAR_DATA_DIR", help="Folder of benchmarks: BENCHMARK/rows.jsonl, instead of the hub."),
]
JudgeOption = Annotated[
    str | None, typer.Option("--judge", help="A model that judges beside the rules, by its name at --judge-url.")
]
JudgeUrlOption = Annotated[
    str | None, typer.Option(help="Its OpenAI-compatible endpoint, such as http://localhost:8000/v1.")
]
JudgeKeyOption = Annotated[
    str | None, typer.Option(help="Environment variable with its key.", show_default="OPENAI_API_KEY, if it is set")
]
JudgeRateOption = Annotated[float, typer.Option(min=0.01, help="Requests a second to the judge, at most.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"avar-eval {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def evaluate(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Registered name, local folder or hub repository.")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option("--tasks", "-t", help="Names of tasks or groups, separated by commas.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for records and results.", show_default="avar-runs/MODEL")
    ] = None,
    limit: LimitOption = None,
    batch_size: BatchSizeOption = None,
    max_new_tokens: TokenLimitOption = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="0 is greedy.", show_default="the model's")] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Nucleus sampling.", show_default="the model's")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=0, help="Draw from the K likeliest tokens, 0: all.", show_default="the model's")
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(min=0.01, max=100.0, help="1 is none.", show_default="the model's")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Responses to each question.")] = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of sampling.")] = 0,
    system_prompt: Annotated[str | None, typer.Option(help="System turn.", show_default="the model's")] = None,
    prompt_style: Annotated[
        str | None, typer.Option(help="thinking, direct or boxed.", show_default="the model's")
    ] = None,
    attention: Annotated[str, typer.Option(help="`on` measures where the model looks, `off` does not.")] = "on",
    attention_samples: Annotated[int, typer.Option(min=1, help="Questions a task whose attention is measured.")] = 200,
    steer: Annotated[
        str | None,
        typer.Option(
            help="Steer attention: avar, vaf, pai, or image=0.15,system=0.4[,mode=logit|log|prob|abs]"
            "[,rows=after-image|all|last][,layers=8-14][,heads=0+3]."
        ),
    ] = None,
    data_dir: DataDirOption = None,
    judge: JudgeOption = None,
    judge_url: JudgeUrlOption = None,
    judge_key_env: JudgeKeyOption = None,
    judge_rate: JudgeRateOption = 10.0,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    backend: Annotated[
        str | None, typer.Option(help="transformers, vllm or api.", show_default="the model's, mostly transformers")
    ] = None,
    api_url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint, up to and with /v1.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with its key.", show_default="OPENAI_API_KEY")
    ] = None,
    api_concurrency: Annotated[int | None, typer.Option(min=1, help="Requests at a time.", show_default="16")] = None,
    api_requests_per_minute: Annotated[
        float | None, typer.Option(min=0.001, help="Begin no more requests than this.", show_default="no limit")
    ] = None,
    api_price: Annotated[
        str | None, typer.Option(help="PROMPT,RESPONSE: dollars a million tokens.", show_default="not counted")
    ] = None,
    api_cost_limit: Annotated[
        float | None, typer.Option(min=0.0, help="Dollars after which nothing is asked.", show_default="no limit")
    ] = None,
    tensor_parallel: Annotated[int | None, typer.Option(min=1, help="GPUs a copy (vllm).", show_default="1")] = None,
    data_parallel: Annotated[int | None, typer.Option(min=1, help="Copies (vllm).", show_default="1")] = None,
    max_model_len: Annotated[
        int | None, typer.Option(min=1, help="Tokens of prompt and response (vllm).", show_default="the model's")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json and nothing else.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Ask MODEL the questions of TASKS; print accuracy and Visual Attention Score. Run again to resume."""
    if context.invoked_subcommand is not None:
        return
    if not model or not tasks:
        raise UsageError("give --model and --tasks; `avar-eval models` and `avar-eval tasks` list what there is")
    output = output or Path("avar-runs") / Path(model).name.lower()
    _check_choice("--attention", attention, ("on", "off"))
    _check_choice("--dtype", dtype, ("float32", "bfloat16", "float16", None))
    _check_choice("--backend", backend, ("transformers", "vllm", "api", None))
    _check_choice("--prompt-style", prompt_style, ("thinking", "direct", "boxed", None))
    judge_model = judge_from_options(judge, judge_url, judge_key_env, judge_rate)
    if temperature and not 1e-6 <= temperature <= 1e6:  # beyond, float32 logits overflow
        raise UsageError("--temperature takes 0 (greedy) or a number from 0.000001 to 1000000")
    if top_p == 0:
        raise UsageError("--top-p must be above 0")
    steering = None if steer is None else _steering(steer)
    # Libraries print, and standard output is for the results.
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.run import RunConfig
        from avar_eval.run import evaluate as run

        results = run(
            RunConfig(
                model=model,
                tasks=listed_names(tasks),
                output=output,
                limit=limit,
                batch_size=batch_size,
                seed=seed,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                repetition_penalty=repetition_penalty,
                samples=samples,
                system_prompt=system_prompt,
                prompt_style=cast("Style | None", prompt_style),
                judge=judge_model,
                data_dir=data_dir,
                device=device,
                dtype=dtype,
                attention_samples=0 if attention == "off" else attention_samples,
                steering=steering,
                backend=cast("BackendName | None", backend),
                backend_options=_given(
                    url=api_url,
                    key_env=api_key_env,
                    concurrency=api_concurrency,
                    requests_per_minute=api_requests_per_minute,
                    price=api_price,
                    cost_limit=api_cost_limit,
                    tensor_parallel=tensor_parallel,
                    data_parallel=data_parallel,
                    max_model_len=max_model_len,
                ),
                command=_command(sys.argv[1:]),
            )
        )
    if as_json:
        typer.echo(results.to_json(), nl=False)
        return
    from avar_eval.report import print_results

    print_results(results, output)


def _steering(text: str) -> "Steering":
    from avar_eval.attention.steering import parse_steering

    return parse_steering(text)


class RunInterruptedError(AvarError):
    """Ctrl-C, with the exit code that shells expect of it."""

    exit_code = 130


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C within this context is RunInterruptedError."""
    try:
        yield
    except KeyboardInterrupt:
        raise RunInterruptedError(
            "interrupted; what is finished is kept, run the same command again to go on"
        ) from None


def _check_choice(option: str, value: str | None, known: tuple[str | None, ...]) -> None:
    if value not in known:
        raise UsageError(f"{option} takes {', '.join(name for name in known if name)}, not {value!r}")


def _given(**options: object) -> dict[str, object]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _command(arguments: list[str]) -> str:
    """The command line for the protocol, without where its results land: that changes nothing in them."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--output":
            skip = True
        elif not argument.startswith("--output="):
            kept.append(argument)
    return shlex.join(["avar-eval", *kept])


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Show this one's entry.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the registered models, or show one."""
    from avar_eval.models.registry import get_model, registry
    from avar_eval.report import print_model, print_models

    if name is None:
        print_models(list(registry().values()), as_json)
    else:
        print_model(get_model(name), as_json)


@app.command()
def tasks(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the tasks and groups of tasks."""
    from avar_eval.report import print_tasks
    from avar_eval.tasks.catalog import catalog
    from avar_eval.tasks.groups import groups

    print_tasks(list(catalog().values()), list(groups().values()), as_json)


@app.command()
def look(
    model: Annotated[str, typer.Argument(help="Registered name, local folder or hub repository.")],
    prompt: Annotated[str, typer.Option(help="What to ask about the images.")],
    image: Annotated[list[Path] | None, typer.Option(help="Image file; repeat it for several, in their order.")] = None,
    system: Annotated[str | None, typer.Option(help="System turn.", show_default="the model's")] = None,
    response: Annotated[
        str | None, typer.Option(help="What the model is taken to have answered.", show_default="it answers, greedily")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the pictures.", show_default="avar-runs/look/MODEL")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Token limit of the answer.", show_default="the model's")
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show where MODEL looks in images: its answer, its Visual Attention Score, and pictures."""
    _check_choice("--dtype", dtype, ("float32", "bfloat16", "float16", None))
    output = output or Path("avar-runs") / "look" / Path(model).name.lower()
    with contextlib.redirect_stdout(sys.stderr):  # libraries print, and standard output is for the results
        from avar_eval.look.conversation import Conversation, check
        from avar_eval.look.conversation import look as look_at
        from avar_eval.look.pictures import draw, prepare_folder
        from avar_eval.look.report import look_to_json, print_look

        conversation = Conversation(model, image or [], prompt, system, response, max_new_tokens, device, dtype)
        check(conversation)
        prepare_folder(output)
        looked = look_at(conversation)
        pictures = draw(looked, output)
    if as_json:
        typer.echo(look_to_json(looked, pictures))
    else:
        print_look(looked, pictures)


@app.command()
def sweep(
    model: Annotated[str, typer.Argument(help="Registered name, local folder or hub repository.")],
    tasks: Annotated[str, typer.Option("--tasks", "-t", help="Task names, separated by commas.")],
    system: Annotated[str, typer.Option(help="Strengths of system suppression, by commas.")] = "0,0.05,0.4,0.6",
    image: Annotated[str, typer.Option(help="Strengths of image enhancement, by commas.")] = "0.15",
    mode: Annotated[str, typer.Option(help="Of logit, log, prob, abs; several by commas.")] = "logit",
    rows: Annotated[str, typer.Option(help="Of after-image, all, last; several by commas.")] = "after-image",
    layers: Annotated[
        list[str] | None, typer.Option(help="Such as 8-14, or all; repeat it for several.", show_default="all")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for records, table and picture.", show_default="avar-runs/sweep/MODEL")
    ] = None,
    limit: LimitOption = None,
    batch_size: BatchSizeOption = None,
    max_new_tokens: TokenLimitOption = None,
    attention_samples: Annotated[int, typer.Option(min=0, help="Questions a task whose attention is measured.")] = 200,
    data_dir: DataDirOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print sweep.json and nothing else.")] = False,
) -> None:
    """Steer MODEL by every combination of strengths, beside itself unsteered. Run again to resume."""
    _check_choice("--dtype", dtype, ("float32", "bfloat16", "float16", None))
    output = output or Path("avar-runs") / "sweep" / Path(model).name.lower()
    from avar_eval.sweep.grid import steering_grid

    grid = steering_grid(system, image, mode, rows, layers or ())
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.run import RunConfig
        from avar_eval.sweep.figure import draw_sweep
        from avar_eval.sweep.run import sweep as run

        found = run(
            RunConfig(
                model=model,
                tasks=listed_names(tasks),
                output=output,
                limit=limit,
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
                data_dir=data_dir,
                device=device,
                dtype=dtype,
                attention_samples=attention_samples,
                command=_command(sys.argv[1:]),
            ),
            grid,
        )
        picture = draw_sweep(found, output / "sweep.png")
    if as_json:
        typer.echo(found.to_json(), nl=False)
        return
    from avar_eval.sweep.report import print_sweep

    print_sweep(found, picture, output)


@app.command()
def score(
    run_dir: Annotated[Path | None, typer.Argument(help="Folder of a finished run.")] = None,
    task: Annotated[str | None, typer.Option(help="Task of --responses.")] = None,
    responses: Annotated[
        Path | None, typer.Option(help="JSON Lines: id, response, optionally model and finish_reason.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Where the judged responses go, as JSON Lines.")] = None,
    data_dir: DataDirOption = None,
    judge: JudgeOption = None,
    judge_url: JudgeUrlOption = None,
    judge_key_env: JudgeKeyOption = None,
    judge_rate: JudgeRateOption = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON and nothing else.")] = False,
) -> None:
    """Judge responses without generating: a run's again, or those of a file."""
    judge_model = judge_from_options(judge, judge_url, judge_key_env, judge_rate)
    if run_dir is not None:
        if task or responses or output:
            raise UsageError("give either RUN_DIR or --task and --responses: a run's own files are rewritten")
        from avar_eval.report import print_results
        from avar_eval.score.records import score_run

        with interruptible():
            results = score_run(run_dir, data_dir, judge_model)
        if as_json:
            typer.echo(results.to_json(), nl=False)
        else:
            print_results(results, run_dir)
        return
    if not task or not responses:
        raise UsageError("give the folder of a finished run, or --task NAME and --responses FILE")
    from avar_eval.score.responses import score_responses, scores_to_json
    from avar_eval.tables import print_scores
    from avar_eval.tasks.catalog import find_tasks

    entries = find_tasks(task.split(","))
    if len(entries) > 1:
        raise UsageError("--task takes one task: its --responses are those of one benchmark")
    with interruptible():
        scored = score_responses(entries[0], responses, data_dir, output, judge_model)
    if as_json:
        typer.echo(scores_to_json(scored))
    else:
        print_scores(entries[0].name, scored, output)


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    run_b: Annotated[Path, typer.Argument(help="Folder of another one, on the same rows.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON and nothing else.")] = False,
) -> None:
    """Compare two runs row by row: difference, interval, p values, and the rows that changed."""
    from avar_eval.compare import compare as compare_runs
    from avar_eval.compare import comparisons_to_json
    from avar_eval.tables import print_comparisons

    comparisons = compare_runs(run_a, run_b)
    if as_json:
        typer.echo(comparisons_to_json(comparisons))
    else:
        print_comparisons(run_a, run_b, comparisons)


def run_app(app: typer.Typer, name: str) -> None:
    """Run a typer app; an AvarError becomes one message on standard error and its exit code.

    So does a full disk behind standard output; a pipe that nobody reads any more ends the program quietly.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows only ASCII shows "?" for "–"
    try:
        try:
            app(prog_name=name)
        finally:
            sys.stdout.flush()  # here, not at exit, where an error would print a traceback
    except AvarError as error:
        typer.echo(f"{name}: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        # Our own files' errors have names by now, and other people's name their file.
        if error.filename is not None or error.errno not in _CANNOT_WRITE:
            raise
        if error.errno != errno.EPIPE:
            typer.echo(f"{name}: cannot write to standard output: {error.strerror}", err=True)
        # What is still in the buffer would fail once more at exit, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def main() -> None:
    """Entry point of `avar-eval`."""
    run_app(app, "avar-eval")
