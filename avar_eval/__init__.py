"""avar-eval: score vision-language reasoning models and measure where they look.

The command line is `avar-eval`. The same from Python, for notebooks:

- `evaluate("avar-tiny", "shapes", limit=4) -> Results`: a whole evaluation; run again, it resumes.
- `load_results(folder) -> Results`: what a finished run found. `Results.to_dataframe()` is its scores as a pandas
  DataFrame, `Results.to_dataframe("rows")` its responses.
- `with Session.of("avar-tiny", folder) as session`: one model and its record book. `session.ask(questions)` gives a
  record for each `Question` of your own: its response, where the model looked and, if you give a judge, a verdict;
  what is recorded is not asked again. `user_turn(text, *images)` is a question's chat.

For models of transformers in programs of your own:

- `measure_attention(model, processor, messages, response) -> AttentionRecord`: one conversation, in one pass.
- `AttentionRecord`: `.visual_attention_score("user" | "response")` is Eq. 2 of arXiv 2603.03825, a ratio;
  `.mass["image"]`, `.mass["system"]`, … are shares of attention, 0..1, [layers, heads, queries].
- `ChatMarkup(processor).roles(input_ids, attention_mask) -> TokenRoles`: whose each token is, [batch, sequence].
- `with observe(model, roles) as observation`: captures masses in any pass of the model, differentiably;
  `observation.masses()` is [layers, batch, heads, queries, groups].
- `with steer(model, Steering(image=0.15, system=0.4), roles)`: Eq. 3 in any pass of the model.

ChatTemplateError: token roles cannot be told. ObserveError, SteerError: this model or pass cannot be observed or
steered exactly. All are `avar_eval.errors.AvarError`, and their messages say what to do.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avar_eval.api import Results, evaluate, load_results
    from avar_eval.attention.measure import measure_attention
    from avar_eval.attention.observe import observe
    from avar_eval.attention.record import AttentionRecord
    from avar_eval.attention.roles import ChatMarkup, TokenRoles
    from avar_eval.attention.steer import steer
    from avar_eval.attention.steering import Steering
    from avar_eval.run.questions import Question, user_turn
    from avar_eval.run.session import Session

if not Path(__file__).with_name("tasks").is_dir():  # a link, which git writes as a text file where it may make none
    raise ImportError(
        "avar_eval/tasks is not a folder: this checkout has no symbolic links. On Windows turn on developer mode, then "
        "`git config core.symlinks true` and `git checkout -- avar_eval`; or install a wheel"
    )

__version__ = "0.1.0"
__all__ = [
    "AttentionRecord",
    "ChatMarkup",
    "Question",
    "Results",
    "Session",
    "Steering",
    "TokenRoles",
    "__version__",
    "evaluate",
    "load_results",
    "measure_attention",
    "observe",
    "steer",
    "user_turn",
]

_HOMES = {
    "AttentionRecord": "avar_eval.attention.record",
    "ChatMarkup": "avar_eval.attention.roles",
    "Question": "avar_eval.run.questions",
    "Results": "avar_eval.api",
    "Session": "avar_eval.run.session",
    "Steering": "avar_eval.attention.steering",
    "TokenRoles": "avar_eval.attention.roles",
    "evaluate": "avar_eval.api",
    "load_results": "avar_eval.api",
    "measure_attention": "avar_eval.attention.measure",
    "observe": "avar_eval.attention.observe",
    "steer": "avar_eval.attention.steer",
    "user_turn": "avar_eval.run.questions",
}


def __getattr__(name: str) -> Any:
    """Public names that need torch are imported when they are first used: `import avar_eval` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'avar_eval' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Public names that are not imported yet, too: notebooks complete names from this list."""
    return sorted({*globals(), *__all__})
