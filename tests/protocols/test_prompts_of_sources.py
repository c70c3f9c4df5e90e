"""Each protocol's prompts, pixels and limits beside its source's: lmms-eval's are executed, others transcribed."""

import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lmms_eval
import pytest
import yaml
from golden_files import check_golden
from invented_rows import ROWS

from avar_eval.errors import UsageError
from avar_eval.protocols.protocol import find_protocol, protocols
from avar_eval.tasks.catalog import catalog, task_hooks

Row = Mapping[str, Any]

INTEGER = "Hint: Please answer the question requiring an integer answer and provide the final value, e.g., 1, 2, 3, at "
LETTER = "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end."
WANTED = "please directly answer the question and provide the correct option letter, e.g., A, B, C, D."
REASONED = (
    "please first conduct reasoning, and then answer the question and provide the correct option letter, e.g., A, B, "
    "C, D, at the end."
)
JARS = {"pid": "9001", "unit": "jars", "precision": None, "choices": None, "answer": "7", "image": None}
ASKED: dict[str, list[dict[str, Any]]] = {
    "mathvista": [
        JARS
        | {
            "question": "How many stand on the top shelf?",
            "question_type": "free_form",
            "answer_type": "integer",
            "query": f"{INTEGER}the end.\nQuestion: How many stand on the top shelf? (Unit: jars)",
        },
        JARS
        | {
            "question": "Which jar is taller?",
            "unit": None,
            "choices": ["the red one", "the blue one"],
            "question_type": "multi_choice",
            "answer_type": "text",
            "query": f"{LETTER}\nQuestion: Which jar is taller?\nChoices:\n(A) the red one\n(B) the blue one",
        },
        JARS
        | {"question": "How full is it?", "question_type": "free_form", "answer_type": "float", "precision": 1.0}
        | {"unit": None, "query": "Hint: Please answer.\nQuestion: How full is it?"},
        JARS
        | {"question": "Which years?", "question_type": "free_form", "answer_type": "list", "unit": None}
        | {"query": "Hint: Please answer.\nQuestion: Which years?"},
    ],
    "mathvision": [
        {"id": "1", "question": "How many jars?\n<image1>", "options": [], "answer": "4"},
        {
            "id": "2",
            "question": "How tall is it?\n<image1>",
            "options": ["$1$", "2 m", "$3$", "$4$", "5"],
            "answer": "B",
        },
        {"id": "3", "question": "Which one?\n<image1>", "options": list("ABCDE"), "answer": "D"},
    ],
    "mathverse_vo": [
        {
            "sample_index": "1",
            "question": "",
            "question_type": "multi-choice",
            "problem_version": "Vision Only",
            "query_wo": f"According to the question shown in the image, {WANTED}",
            "query_cot": f"According to the question shown in the image, {REASONED}",
        }
    ],
    "dynamath": [
        {"id": "901", "question": "What is the area below the curve?", "answer_type": "float", "ground_truth": "2.571"},
        {"id": "902", "question": "Rising? choice: (A) yes (B) no", "answer_type": "multiple choice"},
        {"id": "903", "question": "Which month is it?", "answer_type": "text", "ground_truth": "Sep"},
    ],
    **{name: rows for name, rows in ROWS.items() if name != "hallusion_image"},
}


def rendered(protocol: str, task: str, row: Row) -> str:
    settings = find_protocol(protocol).of_task(catalog()[task]).settings()
    return str(task_hooks(task).doc_to_text(row, settings))


def covered() -> list[tuple[str, str]]:
    """Protocols with prompts of their own, and the tasks that they are for."""
    pairs = []
    for name, protocol in protocols().items():
        for task in ASKED:
            of = protocol.benchmarks.get(task) or protocol.benchmarks.get(catalog()[task].folder)
            if of is not None:
                pairs.append((name, task))
    return pairs


@pytest.mark.parametrize("protocol", sorted({name for name, _ in covered()}))
def test_prompts_are_as_recorded(protocol: str) -> None:
    texts = [
        f"{task} [{find_protocol(protocol).source}]\n{rendered(protocol, task, row)}"
        for name, task in covered()
        for row in ASKED[task]
        if name == protocol
    ]
    check_golden(f"protocol.{protocol}", texts)


THEIRS = {
    # our task -> lmms-eval's YAML file and module of doc_to_text
    "mathvista": ("mathvista/mathvista_testmini_format.yaml", "mathvista.utils", "mathvista_doc_to_text"),
    "mathvision": ("mathvision/mathvision_test.yaml", "mathvision.utils", "mathvision_doc_to_text"),
    "mathverse_vo": ("mathverse/mathverse_testmini_vision_only.yaml", "mathverse.utils", "mathverse_doc_to_text"),
    "mmmu": ("mmmu/mmmu_val.yaml", "mmmu.utils", "mmmu_doc_to_text"),
    "mmmu_pro_standard10": ("mmmu_pro/mmmu_pro_standard.yaml", "mmmu_pro.utils", "mmmu_pro_doc_to_text"),
    "mmmu_pro_vision": ("mmmu_pro/mmmu_pro_vision.yaml", "mmmu_pro.utils", "mmmu_pro_doc_to_text"),
    "mmstar": ("mmstar/mmstar.yaml", "mmstar.utils", "mmstar_doc_to_text"),
    "hallusion": ("hallusion_bench/hallusion_bench_image.yaml", "hallusion_bench.evaluate_hb", "hb_doc_to_text"),
}
LMMS_EVAL = Path(lmms_eval.__file__).parent


class Loader(yaml.SafeLoader):
    """Reads a task of lmms-eval without its functions."""


Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def their_task(file: str) -> dict[str, Any]:
    """A task's YAML with what it includes."""
    path = LMMS_EVAL / "tasks" / file
    config: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader)
    included = config.pop("include", None)
    return (their_task(str(Path(file).parent / included)) if included else {}) | config


@pytest.mark.parametrize("task", THEIRS)
def test_lmms_eval_asks_in_the_same_words(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")  # MathVista's and MathVerse's modules make a judge's client
    monkeypatch.setitem(sys.modules, "Levenshtein", SimpleNamespace(distance=None))  # MathVista's judges with it
    file, module, function = THEIRS[task]
    theirs: Callable[..., str] = getattr(importlib.import_module(f"lmms_eval.tasks.{module}"), function)
    settings = their_task(file).get("lmms_eval_specific_kwargs", {}).get("default")
    for row in ASKED[task]:
        assert rendered("lmms-eval", task, row) == theirs(dict(row), settings)


@pytest.mark.parametrize("task", THEIRS)
def test_lmms_eval_draws_as_many_tokens(task: str) -> None:
    generation = their_task(THEIRS[task][0]).get("generation_kwargs", {})
    protocol = find_protocol("lmms-eval")
    of = protocol.of_task(catalog()[task])
    if "max_new_tokens" in generation:
        assert of.max_new_tokens == generation["max_new_tokens"]
    else:
        defaults = (LMMS_EVAL / "models" / "chat" / "qwen2_5_vl.py").read_text(encoding="utf-8")
        assert f'"max_new_tokens": {of.max_new_tokens},' in defaults
    assert list(of.stop) == generation.get("until", [])
    assert not generation.get("temperature")
    assert protocol.decoding is not None
    assert protocol.decoding["temperature"] == 0


def test_lmms_eval_gives_pictures_as_many_pixels() -> None:
    source = ast.parse((LMMS_EVAL / "models" / "simple" / "qwen2_5_vl.py").read_text(encoding="utf-8"))
    (init,) = (
        node
        for node in ast.walk(source)
        if isinstance(node, ast.FunctionDef) and node.name == "__init__" and "max_pixels" in ast.unparse(node.args)
    )
    arguments = init.args.args
    values = dict(zip([one.arg for one in arguments[-len(init.args.defaults) :]], init.args.defaults, strict=True))
    defaults = {name: eval(ast.unparse(values[name])) for name in ("min_pixels", "max_pixels", "system_prompt")}
    protocol = find_protocol("lmms-eval")
    assert (protocol.image_min_pixels, protocol.image_max_pixels) == (defaults["min_pixels"], defaults["max_pixels"])
    assert protocol.system_prompt == defaults["system_prompt"]


def vlmevalkit_mcq(row: Row, options: list[str]) -> str:
    """`ImageMCQDataset.build_prompt` of vlmeval/dataset/image_mcq.py, of a row without a hint."""
    prompt = f"Question: {row['question']}\n"
    if options:
        prompt += "Options:\n"
        for key, item in zip("ABCDEFGHIJKL", options, strict=False):
            prompt += f"{key}. {item}\n"
        prompt += "Please select the correct answer from the options above. \n"
    return prompt


def vlmevalkit_pro(row: Row, cot: bool) -> str:
    """`MMMUProDataset.build_prompt` of the same file."""
    format_ = (
        "The last line of your response should be of the following format: 'Answer: $LETTER' "
        "(without quotes) where LETTER is one of the options. Think step by step before answering. "
    )
    if "question" not in row:
        question = "Answer the following multiple-choice question in the image. "
        return question + (format_ if cot else "Answer directly with the option letter from the given choices. ")
    prompt = f"Question: {row['question']}\nOptions:\n"
    for key, item in zip("ABCDEFGHIJKL", ast.literal_eval(row["options"]), strict=False):
        prompt += f"{key}. {item}\n"
    direct = "Answer directly with the option letter from the given choices. "
    return prompt + (f"Answer the following multiple-choice question. {format_}" if cot else direct)


def vlmevalkit_dynamath(row: Row) -> str:
    """`Dynamath.build_prompt` of vlmeval/dataset/dynamath.py."""
    inst = {
        "multiple choice": "Provide the corresponing choice option in the 'short answer' key, such as 'A', 'B', 'C', "
        "or 'D'.",
        "float": "Format the answer as a three-digit floating-point number and provide it in the 'short answer' key.",
        "text": "Float numbers in the answer should be formatted as three-digit floating-point numbers.",
    }[row["answer_type"]]
    return (
        f"## Question\n {row['question']}\n## Answer Instruction Please provide an answer to the question outlined "
        "above. Your response should adhere to the following JSON format, which includes two keys: 'solution' and "
        "'short answer'. The 'solution' key can contain detailed steps needed to solve the question, and the 'short "
        f"answer' key should provide a concise response. {inst}\n\nExample of expected JSON response format:\n\n"
        '{\n    "solution": "[Detailed step-by-step explanation]",\n    "short answer": "[Concise Answer]"\n}'
    )


def openvlthinker_mathvision(row: Row) -> str:
    """`format_instruction` of evaluation/eval_openvlthinker.py."""
    if row["options"]:
        hint = (
            "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, E, at the end."
        )
        choices = "\n".join(f"({chr(65 + i)}) {option}" for i, option in enumerate(row["options"]))
        return f"{hint}\nQuestion: {row['question']}\nChoices:\n{choices}"
    return f"Hint: Please answer the question requiring an answer.\nQuestion: {row['question']}"


def eureka_mathvision(row: Row) -> str:
    """eval/mathvision/evaluate_mathvision.py of MM-EUREKA."""
    options = ""
    if row["options"] and "".join(row["options"]) != "ABCDE":
        options = "".join(f"({letter}) {text}\n" for letter, text in zip("ABCDE", row["options"], strict=True))
    return f"{row['question']}\n{options}"


def thinklite_mathvision(row: Row) -> str:
    """eval/model_mathvision_qwen.py of ThinkLite-VL; every row has a list of options there, if an empty one."""
    question = row["question"] + " Options:"
    for i, option in enumerate(row["options"]):
        question += f"\n{chr(ord('A') + i)}. {option}"
    return question + FIRST_THINK


FIRST_THINK = (
    "You FIRST think about the reasoning process as an internal monologue and then provide the final answer. The "
    "reasoning process MUST BE enclosed within <think> </think> tags. The final answer MUST BE put in \\boxed{}."
)

TRANSCRIBED: list[tuple[str, str, Callable[[Row], str]]] = [
    ("vlmevalkit", "mathvista", lambda row: str(row["query"])),
    ("vlmevalkit", "mmmu", lambda row: vlmevalkit_mcq(row, ast.literal_eval(row["options"]))),
    ("vlmevalkit", "mmmu_pro_standard10", lambda row: vlmevalkit_pro(row, cot=False)),
    ("vlmevalkit", "mmmu_pro_vision", lambda row: vlmevalkit_pro(row, cot=False)),
    ("vlmevalkit", "hallusion", lambda row: str(row["question"])),
    ("vlmevalkit", "dynamath", vlmevalkit_dynamath),
    ("vlmevalkit-cot", "mathverse_vo", lambda row: str(row["query_cot"])),
    ("vlmevalkit-cot", "mmmu_pro_standard10", lambda row: vlmevalkit_pro(row, cot=True)),
    ("vlmevalkit-cot", "mmmu_pro_vision", lambda row: vlmevalkit_pro(row, cot=True)),
    ("openvlthinker", "mathvista", lambda row: str(row["query"])),
    ("openvlthinker", "mathverse_vo", lambda row: str(row["query_cot"])),
    ("openvlthinker", "mathvision", openvlthinker_mathvision),
    ("mm-eureka", "mathvista", lambda row: str(row["query"])),
    ("mm-eureka", "mathvision", eureka_mathvision),
    ("thinklite-vl", "mathvista", lambda row: row["query"] + FIRST_THINK),
    ("thinklite-vl", "mathverse_vo", lambda row: row["query_wo"] + FIRST_THINK),
    ("thinklite-vl", "mathvision", thinklite_mathvision),
]


@pytest.mark.parametrize(
    ("protocol", "task", "theirs"), TRANSCRIBED, ids=lambda one: one if isinstance(one, str) else ""
)
def test_a_transcribed_source_asks_in_the_same_words(protocol: str, task: str, theirs: Callable[[Row], str]) -> None:
    for row in ASKED[task]:
        assert rendered(protocol, task, row) == theirs(row)


def test_the_dataset_s_own_prompts_are_those_of_the_official_protocol() -> None:
    for row in ASKED["mathvista"]:
        assert rendered("official", "mathvista", row) == row["query"]
    for row in ASKED["mathverse_vo"]:
        assert rendered("official", "mathverse_vo", row) == row["query_wo"]


def test_a_task_that_a_protocol_does_not_cover_is_named() -> None:
    said = r"--protocol vlmevalkit-cot says nothing of mathvista: it is for mathverse, mmmu_pro_standard10, "
    with pytest.raises(UsageError, match=said):
        find_protocol("vlmevalkit-cot").of_task(catalog()["mathvista"])


def test_the_signature_of_every_doc_to_text_is_lmms_eval_s() -> None:
    for task in ASKED:
        assert list(inspect.signature(task_hooks(task).doc_to_text).parameters) == ["row", "settings"]
