"""The middleware around an application in the place of vLLM: what passes, and how many at a time. It needs no vLLM."""

import asyncio
import json
from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest

from avar_eval.models.request_steering import HEADER
from avar_eval.models.vllm_middleware import SteeringPerRequest

STEERED_ENGINE = {"architectures": ["AvarSteeredQwen2_5_VL"], "hf_config": SimpleNamespace(model_type="qwen2_5_vl")}
STOCK_ENGINE = STEERED_ENGINE | {"architectures": ["Qwen2_5_VLForConditionalGeneration"]}
Message = MutableMapping[str, Any]


def config(model: dict[str, Any]) -> Any:
    return SimpleNamespace(
        use_v2_model_runner=True,
        model_config=SimpleNamespace(
            **model, hf_text_config=SimpleNamespace(num_hidden_layers=4, num_attention_heads=4)
        ),
    )


class Application:
    """Answers a request when it is told to, and remembers the body."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.go = asyncio.Event()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        await self.go.wait()
        await send({"type": "http.response.start", "status": scope.get("status", 200), "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


async def ask(
    application: Any, body: bytes, model: dict[str, Any], servers: int | None = 1, **scope: Any
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the response to a request that comes in two parts."""
    parts = iter([(body[:7], True), (body[7:], False)])
    sent: list[Message] = []

    async def receive() -> Message:
        content, more = next(parts)
        return {"type": "http.request", "body": content, "more_body": more}

    async def send(message: Message) -> None:
        sent.append(message)

    state = SimpleNamespace(vllm_config=config(model), args=SimpleNamespace(api_server_count=servers))
    whole = {"type": "http", "method": "POST", "app": SimpleNamespace(state=state)} | scope
    await application(whole, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, sent[1]["body"]


def asking(text: str) -> bytes:
    return json.dumps({"messages": [], "vllm_xargs": {"avar_steering": text}}).encode()


def test_a_body_passes_as_it_is_and_a_success_names_the_strengths() -> None:
    async def run() -> None:
        application = Application()
        application.go.set()
        steering = SteeringPerRequest(application)
        for body in (b"{}", b'{"a": "avar"}', b"no JSON, avar", b'[1, 2, 3, "avar"]', asking("image=0.3")):
            status, headers, _ = await ask(steering, body, STEERED_ENGINE)
            assert status == 200
            assert application.bodies[-1] == body
            assert headers.get(HEADER) == ("image=0.3,system=0,rows=all" if b"0.3" in body else None)
        status, headers, _ = await ask(steering, asking("image=0.3"), STEERED_ENGINE, status=500)
        assert (status, headers) == (500, {})

    asyncio.run(run())


@pytest.mark.parametrize(
    ("model", "text", "reason"),
    [
        (STOCK_ENGINE, "image=0.3", "not steered. Start it with --hf-overrides"),
        (STEERED_ENGINE, "image=0.3,layers=9", "layers up to 9"),
        (STEERED_ENGINE, "image=nan", "image takes a number"),
    ],
)
def test_what_the_engine_cannot_do_never_reaches_it(model: dict[str, Any], text: str, reason: str) -> None:
    async def run() -> None:
        application = Application()
        status, _, body = await ask(SteeringPerRequest(application), asking(text), model)
        assert status == 400
        assert reason in json.loads(body)["error"]["message"]
        assert application.bodies == []

    asyncio.run(run())


@pytest.mark.parametrize(("servers", "most"), [(1, 128), (None, 128), (4, 32)])
def test_more_different_strengths_than_an_engine_holds_are_put_off(servers: int | None, most: int) -> None:
    async def run() -> None:
        application = Application()
        steering = SteeringPerRequest(application)
        bodies = [asking(f"image={number / 100}") for number in range(most + 1)]
        begun = [asyncio.create_task(ask(steering, body, STEERED_ENGINE, servers)) for body in bodies[:most]]
        begun += [asyncio.create_task(ask(steering, bodies[0], STEERED_ENGINE, servers))]  # the same strengths again
        while len(application.bodies) < most + 1:
            await asyncio.sleep(0)
        status, _, body = await ask(steering, bodies[most], STEERED_ENGINE, servers)
        assert status == 429
        assert f"{most} different strengths" in json.loads(body)["error"]["message"]
        application.go.set()
        assert all(status == 200 for status, _, _ in await asyncio.gather(*begun))
        assert (await ask(steering, bodies[most], STEERED_ENGINE, servers))[0] == 200

    asyncio.run(run())
