"""How a model is asked is said once: no command, class or function spells its options out again."""

import ast

from declarations import ROOT, all_declarations, declarations, options_of_commands, shared_fields, spelled_out

from avar_eval.run.asking import asking_fields

DEFINITION = {
    "avar_eval/run/asking.py:Asking",
    "avar_eval/models/decoding.py:Decoding",
    "avar_eval/models/backend_options.py:TransformersOptions",
    "avar_eval/models/backend_options.py:VllmOptions",
    "avar_eval/models/backend_options.py:ApiOptions",
}

OTHERS = {
    "avar_eval/run/model.py:ResolvedModel": "what became of them",
    "avar_eval/models/registry.py:ModelEntry": "what a model's authors recommend, in registry.yaml",
    "avar_eval/models/registry.py:ApiSource": "where a registered model is served, in registry.yaml",
    "avar_eval/protocols/protocol.py:PublishedProtocol": "what a published protocol fixes, in its YAML",
    "avar_eval/models/open_backend.py:open_backend": "below the border: where to compute, and how",
    "avar_eval/models/transformers_backend.py:Placement": "below the border",
    "avar_eval/models/transformers_backend.py:Placement.of": "below the border",
    "avar_eval/models/transformers_backend.py:TransformersBackend.__init__": "below the border",
    "avar_eval/cluster/ray_workplace.py:join_cluster": "below the border",
    "avar_eval/cluster/ray_workplace.py:Opening": "below the border: the same, for another process",
    "avar_eval/judge/model.py:JudgeModel": "a judge, who is asked otherwise",
    "avar_eval/judge/model.py:judge_from_options": "a judge",
    "avar_eval/suite/state.py:SuiteRun": "what became of a run, in suite.json",
    "recipes/ladder.py:Ladder": "what a ladder's YAML says",
    "recipes/run.py:DataArguments": "training rows",
    "recipes/data.py:load": "training rows",
    "recipes/data.py:_load_source": "training rows",
    "recipes/synthesis/recipe.py:StageModel": "who makes training data, in a recipe's YAML",
    "recipes/synthesis/recipe.py:Reasoner": "defaults of one stage of it",
    "leaderboard/row.py:ListedProtocol": "a results.json of anybody, as it is read",
    "leaderboard/row.py:ListedDecoding": "a results.json of anybody, as it is read",
    "leaderboard/row.py:Row": "a row of the leaderboard",
    "avar_eval/results/schema.py:_Card": "a results.json of anybody, as it is read",
    "avar_eval/look/recorded.py:open_recorded": "in the place of what a recorded run had",
}
"""Places that declare three or more names of options, and mean something else by them."""

COMMANDS = {
    ("timeout", "avar_eval/watch/cli.py:watch"): "minutes without a new checkpoint",
    ("limit", "recipes/synthesis/cli.py:synthesize"): "questions that training data is made of",
    ("model", "leaderboard/cli.py:show"): "rows to show",
    (
        "data_dir",
        "leaderboard/cli.py:add",
    ): "with what rows records are judged again; the leaderboard stands below `run`",
    ("data_dir", "leaderboard/cli.py:publish"): "the same, of the runs that are published",
    ("model", "avar_eval/score/cli.py:score"): "whose responses another harness has written",
    ("model", "recipes/cli.py:ablation"): "the base of a ladder",
    ("model", "recipes/cli.py:ladder"): "the base of a ladder",
    ("seed", "recipes/avar_smol/train.py:main"): "how avar-smol was made",
    ("seed", "recipes/avar_tiny/settle.py:main"): "how avar-tiny was made",
    ("seed", "recipes/avar_tiny/train.py:main"): "how avar-tiny was made",
    ("batch_size", "recipes/avar_tiny/train.py:main"): "how avar-tiny was made",
}
"""Options of commands that have the name of a shared one, and mean something else."""


def test_each_option_is_declared_in_one_class() -> None:
    own = [one.name for one in all_declarations() if one.place in DEFINITION and "Option(" in one.kind]
    print(f"{len(own)} options of how a model is asked, each declared once, in {len(DEFINITION)} classes")
    assert sorted(own) == sorted(set(own)) == sorted(shared_fields())
    assert len(asking_fields()) >= 30


def test_no_other_place_spells_them_out() -> None:
    assert set(spelled_out()) - DEFINITION == set(OTHERS), (
        "say how a model is asked with `Asking`, and options of a command with `asking_options`"
    )


def test_no_command_writes_one_out() -> None:
    written = {(one.name, one.place) for one in options_of_commands()}
    assert written == set(COMMANDS), "take it with `asking_options`"


def test_a_second_declaration_is_found() -> None:
    source = (ROOT / "avar_eval/sweep/cli.py").read_text(encoding="utf-8")
    again = source.replace(
        "    asking: Asking,", "    asking: Asking,\n    limit: Annotated[int, typer.Option()] = 1,", 1
    )
    assert again != source
    found = set(declarations(ast.parse(again))) - set(declarations(ast.parse(source)))
    assert found == {("limit", "Annotated[int, typer.Option()]", "sweep")}


def test_names_that_mean_one_thing_are_declared_once_in_all() -> None:
    read = "leaderboard/row.py:"  # what anybody's results.json says of them
    names = [one.name for one in all_declarations() if not one.place.startswith(read)]
    for name in ("attention_samples", "tensor_parallel", "max_model_len", "requests_per_minute", "top_k", "min_p"):
        assert names.count(name) == 1, name
    for name in ("repetition_penalty", "presence_penalty", "gpu_memory", "in_flight", "first_wait", "data_parallel"):
        assert names.count(name) == 1, name
