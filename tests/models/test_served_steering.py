"""`--backend api --steer`: nothing that a server may not have steered is taken, and a served model's VAS is its own."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from local_server import serve
from PIL import Image
from runs import MODEL, records_of

from avar_eval.attention.steering import Steering, parse_steering
from avar_eval.errors import UsageError
from avar_eval.models.backend import BackendError
from avar_eval.models.backend_options import ApiOptions
from avar_eval.models.checkpoint import ModelSource, resolve_checkpoint
from avar_eval.models.decoding import Decoding
from avar_eval.models.open_backend import open_backend
from avar_eval.models.request_steering import HEADER, REQUEST_KEY, read_strengths
from avar_eval.models.served_observer import ServedObserver
from avar_eval.run.asking import Asking
from avar_eval.run.evaluate import RunConfig, evaluate
from avar_eval.run.model import resolve

STEERING = parse_steering("image=0.3,system=0.9,rows=all")


@dataclass
class SteeredServer:
    """avar-tiny behind an endpoint as vLLM with our plugin is one. It lies, or is another, where a test says so.

    header: what it says in the place of the truth ("": nothing). without_ids: it gives no token ids. system: what it
    puts before a prompt that the client did not send.
    """

    header: str | None = None
    without_ids: bool = False
    system: str | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    model: ServedObserver = field(default_factory=lambda: ServedObserver(resolve_checkpoint(MODEL), "cpu", "float32"))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
        """Headers and content of a reply."""
        self.bodies.append(body)
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages += [{"role": m["role"], "content": _without_pictures(m["content"])} for m in body["messages"]]
        text = (body.get("vllm_xargs") or {}).get(REQUEST_KEY)
        with self.lock:
            self.model.steering = None if text is None else read_strengths(text)
            inputs = self.model.encode([json.dumps(messages)], [_pictures(body)])
            (generation,) = self.model.generate(inputs, Decoding(max_new_tokens=body["max_tokens"]), ["00"])
        choice: dict[str, Any] = {"index": 0, "finish_reason": generation.finish_reason}
        choice["message"] = {"role": "assistant", "content": generation.text}
        reply: dict[str, Any] = {"choices": [choice]}
        if body.get("return_token_ids") and not self.without_ids:
            reply["prompt_token_ids"] = generation.prompt_token_ids
            choice["token_ids"] = generation.token_ids
        said = self.header if self.header is not None or text is None else str(read_strengths(text))
        return ({HEADER: said} if said else {}), reply


def _without_pictures(content: Any) -> Any:
    if isinstance(content, str):
        return content
    return [{"type": "image"} if part["type"] == "image_url" else part for part in content]


def _pictures(body: dict[str, Any]) -> list[Image.Image]:
    parts = [part for m in body["messages"] if not isinstance(m["content"], str) for part in m["content"]]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


@contextmanager
def serving(server: SteeredServer) -> Iterator[SteeredServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers, content = server.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            data = json.dumps(content).encode()
            self.send_response(200)
            for name, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serve(Handler) as server.url:
        yield server


def run(output: Path, steering: Steering | None, server: SteeredServer | None, **options: Any) -> list[dict[str, Any]]:
    """Records of a run over a few questions, with transformers or with a server."""
    asked: dict[str, Any] = {
        "device": "cpu",
        "dtype": "float32",
        "limit": 4,
        "attention_samples": 3,
        "steering": steering,
    }
    if server is not None:
        asked |= {"backend": "api", "backend_options": {"url": server.url} | options}
    evaluate(RunConfig(resolve(Asking.of(model=MODEL, **asked)), ["shapes"], output))
    return sorted(records_of(output), key=lambda record: str(record["row_id"]))


@pytest.mark.parametrize("steering", [STEERING, None], ids=str)
def test_a_served_model_is_steered_and_measured_as_by_transformers(tmp_path: Path, steering: Steering | None) -> None:
    expected = run(tmp_path / "here", steering, None)
    with serving(SteeredServer()) as server:
        found = run(tmp_path / "served", steering, server, weights=MODEL)
    assert [record["response_token_ids"] for record in found] == [record["response_token_ids"] for record in expected]
    assert [record["prompt_token_ids"] for record in found] == [record["prompt_token_ids"] for record in expected]
    ours, theirs = ([r["attention"] for r in records if r["attention"]] for records in (found, expected))
    assert len(ours) == len(theirs) == 3
    for one, other in zip(ours, theirs, strict=True):
        for queries in ("user", "response"):
            assert one[queries]["vas_by_layer"] == pytest.approx(other[queries]["vas_by_layer"], rel=1e-4)
    protocol = json.loads((tmp_path / "served" / "results.json").read_text())["protocol"]
    assert protocol["steering"] == (None if steering is None else steering.identity())
    assert protocol["backend"]["backend"] == "api"
    placeholders = server.model.markup.placeholders
    assert all(body["logit_bias"] == {str(token): -100.0 for token in placeholders} for body in server.bodies)


def test_steering_moves_what_is_served_and_measured(tmp_path: Path) -> None:
    with serving(SteeredServer()) as server:
        steered, plain = (run(tmp_path / str(of), of, server, weights=MODEL) for of in (STEERING, None))
    assert [r["response_token_ids"] for r in steered] != [r["response_token_ids"] for r in plain]
    vas = [[r["attention"]["user"]["vas"] for r in records if r["attention"]] for records in (steered, plain)]
    assert all(abs(one - other) > 0.01 * abs(other) for one, other in zip(*vas, strict=True))
    assert {r["key"] for r in steered}.isdisjoint(r["key"] for r in plain)


@pytest.mark.parametrize("header", ["", "image=0.3,system=0.8,rows=all", "image=0.3,system=0.9", "no strengths"])
def test_a_server_that_does_not_say_that_it_steers_is_not_believed(tmp_path: Path, header: str) -> None:
    with serving(SteeredServer(header=header)) as server, pytest.raises(BackendError, match="x-avar-steering"):
        run(tmp_path, STEERING, server)
    assert records_of(tmp_path) == []


def test_steering_alone_keeps_token_ids_and_measures_nothing(tmp_path: Path) -> None:
    with serving(SteeredServer()) as server:
        records = run(tmp_path / "steered", STEERING, server)
        assert all(record["response_token_ids"] and record["attention"] is None for record in records)
        server.without_ids = True
        records = run(tmp_path / "without", STEERING, server)
        assert all(record["response"] and record["response_token_ids"] == [] for record in records)


def test_an_unsteered_run_asks_for_nothing_that_only_vllm_knows(tmp_path: Path) -> None:
    with serving(SteeredServer()) as server:
        run(tmp_path, None, server)
    assert all({"vllm_xargs", "return_token_ids", "logit_bias"}.isdisjoint(body) for body in server.bodies)


def test_without_token_ids_or_with_another_prompt_nothing_is_measured(tmp_path: Path) -> None:
    with serving(SteeredServer(without_ids=True)) as server, pytest.raises(BackendError, match="no token ids"):
        run(tmp_path / "ids", STEERING, server, weights=MODEL)
    with serving(SteeredServer(system="Be brief.")) as server, pytest.raises(BackendError, match="first difference"):
        run(tmp_path / "prompt", STEERING, server, weights=MODEL)


@pytest.mark.parametrize("text", ["image=0.15", "avar", "image=0.1,rows=all,mode=log", "image=0.1,rows=all,heads=0"])
def test_what_no_server_can_steer_is_refused_before_anything_is_asked(text: str) -> None:
    with pytest.raises(UsageError, match="exactly"):
        open_backend(
            ModelSource("served", None), ApiOptions(url="http://127.0.0.1:9/v1"), steering=parse_steering(text)
        )
