"""What each registered model is asked: its prompt of a row in MathVista's schema, beside what its authors published."""

from typing import Final

import pytest
from golden_files import check_golden

from avar_eval.models.answer_format import instruction_for, with_instruction
from avar_eval.models.registry import registry
from avar_eval.tasks.mathvista.task import doc_to_text

HINT: Final = (
    "Hint: Please answer the question requiring an integer answer and provide the final value, e.g., 1, 2, 3, at the "
    "end."
)
QUERY: Final = f"{HINT}\nQuestion: How many jars stand on the top shelf?"

FIRST_THINK: Final = (
    "You FIRST think about the reasoning process as an internal monologue and then provide the final answer. The "
    "reasoning process MUST BE enclosed within <think> </think> tags. The final answer MUST BE put in \\boxed{}."
)
SEE_THINK: Final = (
    "You are tasked with analyzing an image/video to generate a detailed description to help you answer the question. "
    "First analyze the image/video and produce a self-contained description—detailed enough that can lead to the "
    "correct answer. Wrap the entire description in <description> </description> tags.\\n Next, engage in an internal "
    "dialogue and include self-reflection or verification in your reasoning process. Provide your detailed, "
    "step-by-step reasoning based on the image/video description information and image/video, and enclose this part "
    "within <think> </think> tags.\\n Finally, provide a single word or phrase answer to the question in \\boxed{}."
    "\\nThe output format should be: <description> image/video description here </description> <think> reasoning "
    "process here </think> \\boxed{FINAL ANSWER here}."
)

PUBLISHED: Final[dict[str, tuple[str | None, str]]] = {
    # model -> its system prompt, None for its chat template's own, and the user's turn, as its evaluation makes them
    "mm-eureka": (
        "Solve the question. The user asks a question, and you solves it. You first thinks about the reasoning process "
        "in the mind and then provides the user with the answer. The answer is in latex format and wrapped in $...$. "
        "The final answer must be wrapped using the \\boxed{} command. The reasoning process and answer are enclosed "
        "within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> Since $1+1=2$, so the answer "
        "is $2$. </think><answer> The answer is $\\boxed{2}$ </answer>, which means assistant's output should start "
        "with <think> and end with </answer>.",
        QUERY,  # eval/mathvista/evaluate_mathvista.py: data_item["query"]
    ),
    "vlaa-thinker": (
        "You are VL-Thinking🤔, a helpful assistant with excellent reasoning ability. A user asks you a question, and "
        "you should try to solve it. You should first think about the reasoning process in the mind and then provides "
        "the user with the answer. The reasoning process and answer are enclosed within <think> </think> and <answer> "
        "</answer> tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>",
        QUERY,  # inference.py: the question alone
    ),
    "vision-r1": ("You are a helpful assistant.", QUERY),  # vllm_inference_local.py; its VLMEvalKit asks the query
    "openvlthinker": (None, QUERY),  # evaluation/eval_openvlthinker.py: instruction_field="query"
    "thinklite-vl": (None, QUERY + FIRST_THINK),  # eval/model_mathvista_qwen.py: question + instruct_prompt
    "vision-sr1": (None, f"{QUERY} {SEE_THINK}"),  # see_think_format.jinja: {{ content | trim }} You are tasked …
}

DEFAULT_SYSTEM: Final = "You are a helpful assistant."
"""Of Qwen2-VL's and Qwen2.5-VL's chat templates."""


def asked(name: str) -> tuple[str | None, str]:
    """The system prompt and the text of the user's turn."""
    entry = registry()[name]
    row = {"pid": "9001", "query": QUERY}
    text = doc_to_text(row, {"prompt_style": entry.answer_format})
    message = {"role": "user", "content": [{"type": "image", "url": "jars.png"}, {"type": "text", "text": text}]}
    replacement = instruction_for(entry)
    if replacement is not None:
        message = with_instruction(message, replacement)
    picture, said = message["content"]
    assert picture == {"type": "image", "url": "jars.png"}
    return entry.system_prompt, said["text"]


def test_every_registered_model_is_asked_as_recorded_from_a_named_source() -> None:
    texts = []
    for name, entry in registry().items():
        system, user = asked(name)
        assert entry.prompt_source
        known = entry.prompt_source.startswith(("https://", "not published", "recipes/"))
        assert known, f"{name}: a prompt comes from an address, or is said not to be published"
        texts.append(f"{name} [{entry.prompt_source}]\n--- system\n{system or ''}\n--- user\n{user}")
    check_golden("registered_prompts", texts)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_is_asked_as_its_authors_ask_it(name: str) -> None:
    system, user = asked(name)
    published_system, published_user = PUBLISHED[name]
    assert user == published_user
    assert system == (published_system or DEFAULT_SYSTEM)


@pytest.mark.parametrize("name", ["ovr", "ovr-cs", "mimo-vl-rl", "mimo-vl-sft", "r1-onevision"])
def test_a_model_without_a_published_prompt_is_asked_the_question_alone(name: str) -> None:
    assert asked(name)[1] == QUERY
    assert (registry()[name].prompt_source or "").startswith("not published")


@pytest.mark.parametrize(
    ("name", "decoding", "limit"),
    [
        ("vision-r1", {"temperature": 0.6, "top_p": 0.95}, 4096),
        ("vision-sr1", {"temperature": 0.0}, 2048),
        ("mimo-vl-rl", {"temperature": 0.0}, 32768),
        ("ovr", {"temperature": 0.0}, 32768),
    ],
)
def test_published_decoding_and_token_limits(name: str, decoding: dict[str, float], limit: int) -> None:
    entry = registry()[name]
    assert {field: entry.decoding[field] for field in decoding} == decoding
    assert entry.max_new_tokens == limit


def test_words_around_a_question_leave_its_pictures_where_they_are() -> None:
    content = [{"type": "text", "text": "Is "}, {"type": "image", "url": "x"}, {"type": "text", "text": " red?"}]
    around = with_instruction({"role": "user", "content": content}, ("{question}", "Look. {question} Answer."))
    assert [part.get("text") for part in around["content"]] == ["Look. Is ", None, " red? Answer."]
    assert content[0]["text"] == "Is ", "the row's own message stays as it is"


def test_another_style_is_not_put_into_the_model_s_words() -> None:
    entry = registry()["thinklite-vl"]
    assert instruction_for(entry) is not None
    assert instruction_for(entry, "none") is None, "the question alone was asked for"
    assert instruction_for(entry, "direct") is None
    assert instruction_for(registry()["revisual-r1"], "boxed") is not None
