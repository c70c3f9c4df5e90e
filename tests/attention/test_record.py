"""Records: scores from masses as the equations say, the compact form on disk, and the public door."""

import base64
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoders import batch, eager_copy, eager_maps, gemma, groups_of, qwen, roles_of
from family_models import FAMILIES, lively_model
from PIL import Image
from torch import Tensor

import avar_eval
from avar_eval.attention.objectives import attention_losses, visual_ratio, visual_reward
from avar_eval.attention.observe import GROUPS, RECORDED, ObserveError, key_groups, observe
from avar_eval.attention.record import AttentionRecord, records_of
from avar_eval.attention.roles import Role, TokenRoles
from avar_eval.attention.summary import AttentionSummary
from avar_eval.records.attention import ATTENTION_LINES, attention_line
from avar_eval.records.book import ATTENTION_NAME, RecordBook
from avar_eval.records.journal import Journal, read_lines
from avar_eval.results.metrics import Benchmark
from avar_eval.results.summary import attention_means, has_band, left_out_rows, task_result
from avar_eval.tasks.catalog import catalog

ROLES = roles_of("--sssstvvvvvvvtuuuuutrrrr", "ssstvvvvttvvvvtuuuuuutrrr", "-----sssstvvtuuuuuutrrr--")
WITHOUT_IMAGE = roles_of("sssstuuuuuuutrrrr")
ONLY_SINK = roles_of("suvvvvuuutrrr")
WITHOUT_SYSTEM = roles_of("uuvvvvuuutrrr")


def measured(roles: TokenRoles) -> tuple[list[AttentionRecord], Tensor]:
    """Records, and the reference's masses on every group for all positions."""
    model, inputs = qwen(), batch(roles)
    with torch.no_grad(), observe(model, roles, groups=RECORDED) as observation:
        model(**inputs, use_cache=False)
    with torch.no_grad():
        maps = eager_maps(eager_copy(model), inputs)[0]
    return records_of(observation, roles), groups_of(maps, key_groups(roles))


@pytest.mark.parametrize("queries", ["user", "response"])
@pytest.mark.parametrize("include_sink", [True, False])
def test_scores_are_equation_1_and_2_literally(queries: str, include_sink: bool) -> None:
    records, whole = measured(ROLES)
    for row, record in enumerate(records):
        of_query = whole[:, row][:, :, ROLES.codes[row] == Role[queries.upper()]]
        image, system = of_query[..., GROUPS.index("image")], of_query[..., GROUPS.index("system")]
        if not include_sink:
            system = system - of_query[..., GROUPS.index("sink")]
        layers, heads, count = image.shape
        by_hand = sum(
            float(image[layer, head, query] / system[layer, head, query])
            for layer in range(layers)
            for head in range(heads)
            for query in range(count)
        ) / (layers * heads * count)
        score = record.visual_attention_score(queries, include_sink)  # type: ignore[arg-type]
        assert score == pytest.approx(by_hand, rel=1e-5)
        ratio = record.ratio_of_sums(queries, include_sink)  # type: ignore[arg-type]
        assert ratio == pytest.approx(float(image.sum() / system.sum()), rel=1e-5)


def with_sink(model: Any, token: int, height: float) -> Any:
    """The model with scores on `token` higher by `height` for every query, as massive activations make them."""
    text = model.model.language_model
    text.embed_tokens.weight.data[:, 0] = 0
    text.embed_tokens.weight.data[token] = torch.eye(32)[0] * 1e4  # normalised: sqrt(32) in coordinate 0, which is kept
    for layer in text.layers:
        layer.self_attn.o_proj.weight.data[0] = layer.mlp.down_proj.weight.data[0] = 0
        # the last pair of a head's dimensions, which its position hardly turns
        layer.self_attn.q_proj.bias.data.view(-1, 8)[:, 3] = height
        layer.self_attn.k_proj.weight.data.view(-1, 8, 32)[:, 3] = torch.eye(32)[0] * 8**0.5 / 32**0.5
    return model


def test_a_sink_that_takes_nearly_all_attention_leaves_the_score_without_it_exact() -> None:
    roles = roles_of("sssstvvvvvvvtuuuuutrrrr")
    model, inputs = with_sink(qwen(), 99, 20.0), batch(roles)
    inputs["input_ids"][0, 0] = 99
    with torch.no_grad(), observe(model, roles, groups=RECORDED) as observation:
        model(**inputs, use_cache=False)
    (record,) = records_of(observation, roles)
    with torch.no_grad():
        maps = eager_maps(eager_copy(model), inputs)[0][:, 0]
    of_user = maps[:, :, roles.mask(Role.USER)[0]]
    assert float(of_user[..., 0].min()) > 1 - 1e-4
    expected = (of_user[..., 5:12].sum(-1) / of_user[..., 1:4].sum(-1)).mean()
    assert record.visual_attention_score(include_sink=False) == pytest.approx(float(expected), rel=1e-4)


def test_records_of_other_key_groups_are_refused() -> None:
    model = qwen()
    with torch.no_grad(), observe(model, ROLES) as observation:
        model(**batch(ROLES), use_cache=False)
    with pytest.raises(ObserveError, match="system_beyond_sink"):
        records_of(observation, ROLES)


def test_positions_and_roles_of_a_record_know_no_padding() -> None:
    records, whole = measured(ROLES)
    for row, record in enumerate(records):
        present = ROLES.codes[row] != Role.PADDING
        assert torch.equal(record.roles, ROLES.codes[row][present])
        asked = torch.isin(record.roles, torch.tensor([Role.USER, Role.RESPONSE]))
        assert torch.equal(record.queries, asked.nonzero().flatten())
        for group, name in enumerate(GROUPS):
            wanted = whole[:, row][:, :, present][:, :, asked][..., group]
            assert torch.allclose(record.mass[name].double(), wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("roles", "with_sink", "without_sink"),
    [(WITHOUT_IMAGE, False, False), (ONLY_SINK, True, False), (WITHOUT_SYSTEM, False, False), (ROLES, True, True)],
)
def test_scores_that_are_not_defined_are_none(roles: TokenRoles, with_sink: bool, without_sink: bool) -> None:
    record = measured(roles)[0][0]
    summary = record.summary()
    assert summary.user is not None
    for include_sink, defined, stored in ((True, with_sink, "vas"), (False, without_sink, "vas_without_sink")):
        assert (record.visual_attention_score(include_sink=include_sink) is not None) == defined
        assert (getattr(summary.user, stored) is not None) == defined
    assert set(summary.user.share_by_layer) == set(GROUPS)


def test_a_mean_over_samples_has_an_interval_and_leaves_out_the_undefined() -> None:
    summaries = [record.summary() for record in [*measured(ROLES)[0], *measured(WITHOUT_IMAGE)[0]]]
    estimate = attention_means(summaries)["vas"]
    scores = [summary.user.vas for summary in summaries if summary.user and summary.user.vas is not None]
    assert len(scores) == 3
    assert estimate.n == 3
    assert estimate.value == pytest.approx(sum(scores) / 3)
    assert estimate.ci95 is not None
    assert 0 <= estimate.ci95[0] < estimate.value < estimate.ci95[1]  # Student's t of three: wider than they are apart


def test_masses_of_windowed_layers_are_pooled() -> None:
    model, inputs = gemma(), batch(ROLES)
    with torch.no_grad(), observe(model, ROLES, groups=RECORDED) as observation:
        model(**inputs, use_cache=False)
    for record in records_of(observation, ROLES):
        chosen = record.chosen("response")
        image, system = (record.mass[name][:, :, chosen].double().sum(0) for name in ("image", "system"))
        assert record.visual_attention_score("response") == pytest.approx(float((image / system).mean()))
        summary = record.summary().response
        assert summary is not None
        assert summary.vas_by_layer is None


def test_the_file_reads_back_with_numpy_alone(tmp_path: Path) -> None:
    records = measured(ROLES)[0]
    path = tmp_path / ATTENTION_NAME
    journal = Journal(path, ATTENTION_LINES)
    journal.append([attention_line("a", records[0]), attention_line("b", records[1])])
    journal.append([attention_line("a", records[2])])
    with path.open("a", encoding="utf-8") as file:
        file.write('{"key":"torn')
    # as the module's docstring says
    line = json.loads(open(path, encoding="utf-8").readline())  # noqa: SIM115
    array = line["vas_by_query"]
    vas = np.frombuffer(base64.b64decode(array["float16"]), "<f2").reshape(array["shape"])
    record = records[0]
    user = record.chosen("user").numpy()
    assert vas[user].mean() == pytest.approx(record.visual_attention_score(), rel=2e-3)
    runs = ["system", "template", "image", "template", "user", "template", "response"]
    assert [role for role, _ in line["roles"]] == runs
    assert sum(length for _, length in line["roles"]) == len(record.roles)
    lines = read_lines(path, ATTENTION_LINES)
    assert set(lines) == {"a", "b"}
    by_head = lines["a"]["vas_by_head_user"]  # the later line supersedes
    assert by_head.shape == (3, 4)
    assert by_head.mean() == pytest.approx(records[2].visual_attention_score(), rel=2e-3)
    shares = lines["b"]["share_by_query"]
    assert shares.shape == (len(GROUPS), len(records[1].queries))
    assert shares[1:].sum(0) == pytest.approx(np.ones(shares.shape[1]), abs=5e-3)


def test_a_line_of_a_7b_model_is_a_few_kilobytes() -> None:
    queries = torch.arange(40, 340)
    roles = torch.full((340,), int(Role.RESPONSE))
    roles[:11], roles[11:40], roles[40:60] = int(Role.SYSTEM), int(Role.IMAGE), int(Role.USER)
    mass = {name: torch.rand(28, 28, len(queries)) for name in GROUPS}
    record = AttentionRecord(mass, mass["system"] - mass["sink"], roles, queries, tuple(range(28)))
    assert len(ATTENTION_LINES.encode(attention_line("0" * 64, record))) < 16_000


def test_losses_and_reward_by_hand() -> None:
    image = torch.tensor([0.2, 0.4, 0.6, 0.1]).view(1, 1, 2, 2).double()  # one layer, one sequence, two heads
    system = torch.tensor([0.5, 0.1, 0.2, 0.4]).view(1, 1, 2, 2).double()
    queries, keys = torch.tensor([[True, True]]), torch.tensor([10])
    losses = attention_losses(image, system, queries, keys, torch.tensor([5]))
    assert float(losses.enhance_image) == pytest.approx(-(np.log(0.6 / 20) + np.log(0.7 / 20)) / 2)
    assert float(losses.suppress_system) == pytest.approx((np.log(0.06 + 1e-6) + np.log(0.06 + 1e-6)) / 2)
    ratios = [(0.2 + 0.6) / 2 / ((0.5 + 0.2) / 2 + 1e-6), (0.4 + 0.1) / 2 / ((0.1 + 0.4) / 2 + 1e-6)]
    assert visual_ratio(image, system)[0].tolist() == pytest.approx(ratios)
    for correct, reward in ((True, sum(ratios) / 2), (False, 0.0)):
        assert float(visual_reward(image, system, queries, torch.tensor([correct]))) == pytest.approx(reward)


def test_sequences_without_image_or_queries_add_nothing_to_the_losses() -> None:
    mass = torch.rand(2, 3, 4, 5, requires_grad=True)
    queries = torch.tensor([[True] * 5, [False] * 5, [True] * 5])
    keys = torch.tensor([7, 7, 0])
    alone = attention_losses(mass[:, :1], mass[:, :1], queries[:1], keys[:1], keys[:1])
    assert torch.equal(torch.stack(attention_losses(mass, mass, queries, keys, keys)), torch.stack(alone))
    none = attention_losses(mass, mass, queries[1:2].expand(3, -1), keys, keys)
    assert [float(loss.detach()) for loss in none] == [0, 0]
    assert torch.autograd.grad(sum(none), mass)[0].eq(0).all()


@pytest.mark.parametrize("response", ["A red circle.", [70, 71, 72], None])
def test_the_public_door_measures_one_conversation(response: str | list[int] | None) -> None:
    family = FAMILIES["qwen2_5_vl"]
    processor = family.processor()
    model = lively_model(family.config(processor.tokenizer))
    content = [{"type": "image", "image": Image.new("RGB", (56, 84), "red")}, {"type": "text", "text": "What is this?"}]
    messages = [{"role": "user", "content": content}]
    record = avar_eval.measure_attention(model, processor, messages, response)
    assert (record.visual_attention_score("response") is None) == (response is None)
    assert record.visual_attention_score() is not None
    assert record.mass["image"].shape == (
        len(record.layers),
        model.config.text_config.num_attention_heads,
        len(record.queries),
    )
    last = record.roles[record.roles == Role.RESPONSE]
    tokens = processor.tokenizer.encode(response, add_special_tokens=False) if isinstance(response, str) else response
    assert len(last) == len(tokens or [])
    total = torch.stack([record.mass[name] for name in GROUPS[1:]]).sum(0)
    assert torch.allclose(total, torch.ones(()))
    if isinstance(response, str):  # the same as an assistant's turn, but for the turn's end
        messages.append({"role": "assistant", "content": [{"type": "text", "text": response}]})
        whole = avar_eval.measure_attention(model, processor, messages)
        at = torch.isin(whole.queries, record.queries)
        assert torch.allclose(whole.mass["image"][:, :, at], record.mass["image"], atol=1e-6)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, avar_eval; assert 'torch' not in sys.modules; avar_eval.observe; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'misure'"):
        avar_eval.misure  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize("torn", [0, 1, 70_000, 200_000])
@pytest.mark.parametrize("whole", [0, 1, 3])
def test_a_torn_line_is_cut_off_before_more_is_written(whole: int, torn: int, tmp_path: Path) -> None:
    """A killed run leaves one; what is appended to it would be one line with it, and lost."""
    lines = "".join(json.dumps({"key": f"k{number}", "filling": "x" * 40_000}) + "\n" for number in range(whole))
    path = tmp_path / ATTENTION_NAME
    path.write_text(lines + "{" * torn)
    (tmp_path / "attention.rank1.jsonl").write_text('{"key":"new"}\n')
    RecordBook(tmp_path).close()
    assert path.read_text() == lines + '{"key":"new"}\n'


def test_numbers_over_the_words_of_the_user_are_those_of_their_queries() -> None:
    record = measured(ROLES)[0][0]
    assert record.summary().text is None  # nobody said which are words
    user = record.chosen("user").nonzero().flatten()
    words = torch.zeros(len(record.queries), dtype=torch.bool)
    words[user[1:]] = True
    told = dataclasses.replace(record, text=words)
    scores, summary = told.scores("user"), told.summary()
    assert scores is not None
    assert summary.text is not None
    assert summary.text.tokens == len(user) - 1
    assert summary.text.vas == pytest.approx(float(scores[..., 1:].mean()), rel=1e-5)
    assert summary.user == record.summary().user
    flat = scores.flatten().sort(descending=True).values
    top = flat[: -(-len(flat) // 100)].sum() / flat.sum()
    assert summary.user is not None
    assert summary.user.top_share == pytest.approx(float(top), rel=1e-5)
    for queries, of in (("turn", summary.user), ("text", summary.text)):
        metrics = attention_means([summary], queries=queries)  # type: ignore[arg-type]
        assert metrics["vas"].value == of.vas
        assert metrics["ratio_of_sums"].value == pytest.approx(of.ratio_of_sums, rel=1e-5)
        assert metrics["vas_text"].value == summary.text.vas


def test_a_band_is_of_models_as_they_are_and_of_means_that_no_few_make() -> None:
    summary = measured(ROLES)[0][0].summary()
    assert summary.user is not None

    def row(vas: float, top_share: float | None = 0.1) -> AttentionSummary:
        assert summary.user is not None
        return AttentionSummary(
            user=summary.user.model_copy(update={"vas": vas, "top_share": top_share}), response=None
        )

    benchmark = Benchmark(catalog()["shapes"], {})

    def band(rows: list[AttentionSummary], band: bool = True) -> str | None:
        return task_result(benchmark, [], attention_means(rows), left_out_rows({}), band=band).vas_band

    usual = [row(11 + number % 3) for number in range(100)]
    assert band(usual) == band([row(11, None)] * 5) == "wide"
    assert band(usual, band=False) is None
    assert not has_band({"steering": {"image": 0.1}})
    assert not has_band({"attention": {"queries": "text"}})
    assert has_band({"steering": None, "attention": {"queries": "user"}})
    assert band([*usual, row(1000)]) is None  # one row holds nearly half of the sum
    assert attention_means([*usual, row(1000)])["vas"].ci95 is None
    assert attention_means([*usual, row(1000)])["vas_median"].ci95 is not None
    assert band([row(11, 0.8)] * 100) is None  # a hundredth of the heads and queries makes each row's
    assert band([]) is None
