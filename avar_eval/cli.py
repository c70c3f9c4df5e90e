"""`avar-eval`: the command line. Thin; nothing heavy is imported before a command needs it."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from avar_eval import __version__
from avar_eval.command_line import (
    AttnImplementationOption,
    BatchSizeOption,
    DataDirOption,
    DeviceOption,
    DtypeOption,
    IncludeOption,
    JudgeKeyOption,
    JudgeOption,
    JudgeRateOption,
    JudgeUrlOption,
    LimitOption,
    OutsideOption,
    TokenLimitOption,
    check_choice,
    command_text,
    expanded,
    interruptible,
    new_app,
    run_app,
)
from avar_eval.data_cli import data_app
from avar_eval.diagnosis.cli import correlate, profile
from avar_eval.doctor.cli import doctor
from avar_eval.errors import UsageError
from avar_eval.judge.model import judge_from_options
from avar_eval.look.cli import look
from avar_eval.names import listed_names, run_name
from avar_eval.ranks import launched
from avar_eval.score.cli import compare, score
from avar_eval.sweep.cli import sweep
from avar_eval.terminal import say
from avar_eval.watch.cli import watch_command

if TYPE_CHECKING:
    from avar_eval.attention.steering import Steering
    from avar_eval.models.backend_options import BackendName
    from avar_eval.tasks.prompts import Style


app = new_app("Score vision-language reasoning models, and measure where they look.")
app.add_typer(data_app, name="data")
app.command("watch")(watch_command)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"avar-eval {__version__}")
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
        Path | None,
        typer.Option(callback=expanded, help="Folder for records and results.", show_default="avar-runs/MODEL"),
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
            help="Steer attention: avar, vaf, pai, or strengths such as image=0.15,system=0.4, with "
            "mode=logit|log|prob|abs, rows=after-image|all|last, layers=8-14, heads=0+3 after further commas."
        ),
    ] = None,
    include_path: IncludeOption = None,
    data_dir: DataDirOption = None,
    allow_outside: OutsideOption = False,
    judge: JudgeOption = None,
    judge_url: JudgeUrlOption = None,
    judge_key_env: JudgeKeyOption = None,
    judge_rate: JudgeRateOption = 10.0,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    attn_implementation: AttnImplementationOption = None,
    backend: Annotated[
        str | None, typer.Option(help="transformers, vllm or api.", show_default="the model's, mostly transformers")
    ] = None,
    api_url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint, up to and with /v1.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with its key.", show_default="OPENAI_API_KEY")
    ] = None,
    api_weights: Annotated[
        str | None,
        typer.Option(
            help="The checkpoint that it serves, as --model would name it: measures attention (vLLM).",
            show_default="attention is not measured",
        ),
    ] = None,
    api_concurrency: Annotated[int | None, typer.Option(min=1, help="Requests at a time.", show_default="16")] = None,
    api_requests_per_minute: Annotated[
        float | None, typer.Option(min=0.001, help="Begin no more requests than this.", show_default="no limit")
    ] = None,
    api_price: Annotated[
        str | None, typer.Option(help="PROMPT,RESPONSE: dollars a million tokens.", show_default="not counted")
    ] = None,
    api_cost_limit: Annotated[
        float | None, typer.Option(min=0.001, help="Dollars after which nothing is asked.", show_default="no limit")
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
    output = output or Path("avar-runs") / run_name(model)
    check_choice("--attention", attention, ("on", "off"))
    check_choice("--dtype", dtype, ("float32", "bfloat16", "float16", None))
    check_choice("--backend", backend, ("transformers", "vllm", "api", None))
    check_choice("--prompt-style", prompt_style, ("thinking", "direct", "boxed", None))
    judge_model = judge_from_options(judge, judge_url, judge_key_env, judge_rate)
    steering = None if steer is None else _steering(steer)
    api_options = _given(
        url=api_url,
        key_env=api_key_env,
        weights=api_weights,
        concurrency=api_concurrency,
        requests_per_minute=api_requests_per_minute,
        price=api_price,
        cost_limit=api_cost_limit,
    )
    vllm_options = _given(tensor_parallel=tensor_parallel, data_parallel=data_parallel, max_model_len=max_model_len)
    transformers_options = _given(attn_implementation=attn_implementation)
    backend_options = _of_backend(
        model, cast("BackendName | None", backend), api_options, vllm_options, transformers_options
    )
    # Libraries print, and standard output is for the results.
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.run.evaluate import RunConfig
        from avar_eval.run.evaluate import evaluate as run

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
                allow_outside=allow_outside,
                device=device,
                dtype=dtype,
                attention_samples=0 if attention == "off" else attention_samples,
                steering=steering,
                backend=cast("BackendName | None", backend),
                backend_options=backend_options,
                command=command_text(sys.argv[1:]),
            )
        )
    if not launched().first:
        return
    if as_json:
        say(results.to_json(), end="")
        return
    from avar_eval.results.run_table import print_results

    print_results(results, output)


def _steering(text: str) -> "Steering":
    from avar_eval.attention.steering import parse_steering

    return parse_steering(text)


def _given(**options: object) -> dict[str, object]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _of_backend(
    model: str,
    backend: "BackendName | None",
    api: dict[str, object],
    vllm: dict[str, object],
    transformers: dict[str, object],
) -> dict[str, object]:
    """The options for the run's backend. Raises UsageError for one that only another backend has."""
    from avar_eval.models.registry import choose_backend, find_model

    chosen = choose_backend(find_model(model), backend)
    for name, prefix, options in (("api", "--api-", api), ("vllm", "--", vllm), ("transformers", "--", transformers)):
        if options and chosen != name:
            option = prefix + min(options).replace("_", "-")
            raise UsageError(f"{option} is an option of --backend {name}, and {model} is run by {chosen}")
    return api | vllm | transformers


@app.command()
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


for command in (look, sweep, profile, correlate, score, compare, doctor):
    app.command()(command)


def main() -> None:
    """Entry point of `avar-eval`."""
    run_app(app, "avar-eval")


if __name__ == "__main__":  # `accelerate launch -m avar_eval.cli`
    main()
