"""Strengths that requests bring to `vllm serve` by HTTP: exact, or refused with a reason, and never left out."""

import base64
import importlib.util
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import Image
from runs import MODEL, records_of

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: .ci/vllm makes an environment with it", allow_module_level=True)

from eager_reference import Reference

from avar_eval.attention.steering import parse_steering
from avar_eval.models.api_backend import ApiBackend, served_model
from avar_eval.models.backend_options import ApiOptions
from avar_eval.models.decoding import Decoding
from avar_eval.models.registry import get_model
from avar_eval.models.request_steering import HEADER, MIDDLEWARE, REQUEST_KEY, read_strengths
from avar_eval.models.vllm_plugin import STEERED, VllmSteering
from avar_eval.tasks.shapes.dataset import prompt, rows

STRENGTHS = [
    None,
    "image=0.3,system=0.9",
    "image=1.5,system=0.2,rows=all",
    "image=0.5,mode=prob",
    "image=-0.6,layers=1",
]
REFUSED = json.loads((Path(__file__).parent / "refused_strengths.json").read_text(encoding="utf-8"))
V2 = os.environ.get("VLLM_USE_V2_MODEL_RUNNER") == "1"
N = 20

needs_v2 = pytest.mark.skipif(not V2, reason="needs vLLM's V2 runner: .ci/vllm runs this file under both")


@dataclass
class Question:
    """One request's body, and what the reference needs."""

    body: dict[str, Any]
    image: Image.Image
    text: str | None

    @property
    def steering(self) -> VllmSteering:
        return VllmSteering() if self.text is None else VllmSteering.of(read_strengths(self.text))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `vllm serve` with the steered class of avar-tiny, up to and with /v1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--served-model-name", MODEL, "--dtype", "float32", "--enforce-eager", "--max-model-len", "1024"]
    options += ["--max-num-seqs", "8", "--max-num-batched-tokens", "160", "--generation-config", "vllm"]
    options += ["--limit-mm-per-prompt", '{"image": 2, "video": 0}', "--host", "127.0.0.1", "--port", str(port)]
    options += ["--hf-overrides", json.dumps({"architectures": [STEERED["qwen2_5_vl"]]}), "--middleware", MIDDLEWARE]
    command = [str(Path(sys.executable).with_name("vllm")), "serve", str(get_model(MODEL).path), *options]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file, env=environment) as process:
        try:
            for _ in range(600):
                if process.poll() is not None:
                    break
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(1)
            assert process.poll() is None, log.read_text()[-3000:]
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def reference() -> Reference:
    path = get_model(MODEL).path
    assert path is not None
    return Reference(path)


def question(row: dict[str, Any], text: str | None, **more: Any) -> Question:
    buffer = io.BytesIO()
    row["image"].convert("RGB").save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt(row)}]
    system = "Look closely." if len(prompt(row)) % 2 else "You answer questions about pictures, briefly."
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": 12,
        "logprobs": True,
        "return_token_ids": True,
        "ignore_eos": True,
        "allowed_token_ids": list(range(300)),
    }
    if text is not None:
        body["vllm_xargs"] = {REQUEST_KEY: text}
    return Question(body | more, row["image"].convert("RGB"), text)


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    chosen = list(rows("test"))[:: 500 // 4][:4]
    return [question(chosen[number % 4], STRENGTHS[number // 4]) for number in range(N)]


def post(server: str, body: dict[str, Any], path: str = "/chat/completions") -> httpx.Response:
    return httpx.post(server + path, json=body, timeout=300)


def log_probabilities(reply: httpx.Response) -> torch.Tensor:
    tokens = reply.json()["choices"][0]["logprobs"]["content"]
    return torch.tensor([token["logprob"] for token in tokens], dtype=torch.float64)


def far_from(reference: Reference, of: Question, reply: httpx.Response, steering: VllmSteering) -> float:
    ids, response = reply.json()["prompt_token_ids"], reply.json()["choices"][0]["token_ids"]
    expected = reference.log_probabilities(ids + response, [of.image], steering, len(ids))[-len(response) :]
    return float((log_probabilities(reply) - expected).abs().max())


def assert_lives(server: str, reference: Reference, question: Question) -> None:
    reply = post(server, question.body)
    assert reply.status_code == 200, reply.text
    assert far_from(reference, question, reply, question.steering) < 1e-4


@needs_v2
def test_mixed_requests_at_once_are_what_they_are_alone_and_what_the_reference_says(
    server: str, reference: Reference, questions: list[Question]
) -> None:
    with ThreadPoolExecutor(N) as pool:
        together = list(pool.map(lambda of: post(server, of.body), questions))
    alone = [post(server, of.body) for of in questions]
    moved = 0.0
    for of, one, other in zip(questions, together, alone, strict=True):
        assert one.status_code == other.status_code == 200, one.text
        said = None if of.text is None else str(read_strengths(of.text))
        assert one.headers.get(HEADER) == other.headers.get(HEADER) == said
        assert one.json()["choices"][0]["token_ids"] == other.json()["choices"][0]["token_ids"]
        assert torch.allclose(log_probabilities(one), log_probabilities(other), rtol=0, atol=1e-4)
        assert far_from(reference, of, one, of.steering) < 1e-4
        if of.text is not None:
            moved = max(moved, far_from(reference, of, one, VllmSteering()))
    assert moved > 0.1


@needs_v2
def test_a_salt_of_ones_own_is_taken_beside_the_servers(
    server: str, reference: Reference, questions: list[Question]
) -> None:
    assert_lives(
        server, reference, Question(questions[4].body | {"cache_salt": "mine"}, questions[4].image, STRENGTHS[1])
    )
    reply = post(server, questions[0].body | {"cache_salt": "avar-steering-00"})
    assert reply.status_code == 400
    assert "cache_salt" in reply.text


@needs_v2
def test_a_completion_of_a_rendered_prompt_and_a_stream_are_steered(server: str, questions: list[Question]) -> None:
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    asked = {"model": MODEL, "prompt": text, "max_tokens": 2, "vllm_xargs": {REQUEST_KEY: "system=0.5"}}
    reply = post(server, asked, "/completions")
    assert (reply.status_code, reply.headers.get(HEADER)) == (200, "image=0,system=0.5,rows=all")
    reply = post(server, questions[4].body | {"stream": True})
    assert (reply.status_code, reply.headers.get(HEADER)) == (200, str(read_strengths(STRENGTHS[1])))
    assert "[DONE]" in reply.text


@needs_v2
@pytest.mark.parametrize("stream", [False, True])
def test_strengths_that_cannot_be_are_refused(
    server: str, reference: Reference, questions: list[Question], stream: bool
) -> None:
    for strengths, reason in REFUSED:
        body = questions[0].body | {"vllm_xargs": {REQUEST_KEY: strengths}, "stream": stream}
        reply = post(server, body)
        assert reply.status_code == 400, (strengths, reply.text)
        assert reason in reply.json()["error"]["message"], (strengths, reply.text)
        assert HEADER not in reply.headers
    assert_lives(server, reference, questions[4])


@needs_v2
@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"avar_steering": "image=0.3"}, "vllm_xargs"),
        ({"vllm_xargs": {"avar-steering": "image=0.3"}}, "avar-steering"),
        ({"vllm_xargs": {REQUEST_KEY: "image=0.3"}, "use_beam_search": True}, "beam search"),
    ],
)
def test_what_would_be_left_out_is_refused(
    server: str, questions: list[Question], more: dict[str, Any], reason: str
) -> None:
    reply = post(server, questions[0].body | more)
    assert reply.status_code == 400
    assert reason in reply.json()["error"]["message"]


def test_a_raw_completion_is_refused_and_the_server_lives(
    server: str, reference: Reference, questions: list[Question]
) -> None:
    for raw in ("hello there", [0, 1, 2], [5]):
        reply = post(server, {"model": MODEL, "prompt": raw, "max_tokens": 4}, "/completions")
        assert reply.status_code == 400
        assert "takes only what the model's chat template has rendered" in reply.text
    assert_lives(server, reference, questions[0])


@pytest.mark.skipif(V2, reason="the V2 runner takes them")
@pytest.mark.parametrize("stream", [False, True])
def test_the_v1_runner_refuses_strengths_of_a_request(
    server: str, reference: Reference, questions: list[Question], stream: bool
) -> None:
    reply = post(server, questions[4].body | {"stream": stream})
    assert reply.status_code == 400
    assert "need vLLM's V2 runner, and this engine has the V1 runner" in reply.json()["error"]["message"]
    assert_lives(server, reference, questions[0])


@needs_v2
def test_the_api_backend_is_answered_as_transformers_steered_alike(server: str) -> None:
    from avar_eval.models.checkpoint import resolve_checkpoint
    from avar_eval.models.served_observer import ServedObserver

    @dataclass
    class Asked:
        key: str
        prompt: str
        picture: Image.Image

        def images(self) -> list[Image.Image]:
            return [self.picture]

    steering = parse_steering("image=0.3,system=0.9,rows=all")
    observer = ServedObserver(resolve_checkpoint(MODEL), "cpu", "float32", steering)
    options = ApiOptions(url=server, weights=MODEL)
    backend = ApiBackend(served_model(MODEL, None), options, steering, observer.markup.placeholders)
    chosen = list(rows("test"))[:4]
    asked = []
    for row in chosen:
        content = [{"type": "image"}, {"type": "text", "text": prompt(row)}]
        text = backend.render([{"role": "user", "content": content}])
        asked.append(Asked("ab" * 32, text, row["image"].convert("RGB")))
    decoding = Decoding(max_new_tokens=24)
    answers = dict(backend.answer(asked, decoding))
    inputs = observer.encode([of.prompt for of in asked], [of.images() for of in asked])
    expected = observer.generate(inputs, decoding, [of.key for of in asked])
    for number, theirs in enumerate(expected):
        ours = answers[number]
        assert (ours.prompt_token_ids, ours.token_ids) == (theirs.prompt_token_ids, theirs.token_ids)


@needs_v2
def test_the_command_line_scores_what_is_served_as_transformers_steered_alike(server: str, tmp_path: Path) -> None:
    def results(name: str, *how: str) -> Any:
        command = [sys.executable, "-m", "avar_eval.cli", "--model", MODEL, "--tasks", "shapes", "--limit", "4"]
        command += ["--steer", "image=0.3,system=0.9,rows=all", "--max-new-tokens", "24", *how]
        command += ["--output", str(tmp_path / name), "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"OPENAI_API_KEY": "none"}, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["tasks"]["shapes"]["metrics"]

    served = results("served", "--backend", "api", "--api-url", server, "--api-weights", MODEL)
    ours = results("ours", "--device", "cpu", "--dtype", "float32")
    responses = [{one["row_id"]: one["response"] for one in records_of(tmp_path / name)} for name in ("served", "ours")]
    assert responses[0] == responses[1]
    for name in ("accuracy", "truncated", "vas", "vas_response"):
        assert served[name]["n"] == ours[name]["n"] > 0
        assert served[name]["value"] == pytest.approx(ours[name]["value"], rel=1e-3)
