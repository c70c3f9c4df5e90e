"""An endpoint is asked without its images, and only where that is asked for: each question costs money."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from endpoint import KEY, Endpoint, pictures, served

from avar_eval import evaluate


@pytest.mark.parametrize("causal", ["fast", "full"])
def test_blind_is_asked_without_images(
    causal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with served(Endpoint()) as endpoint:
        how = {"backend": "api", "api_url": endpoint.url, "api_key_env": "TEST_KEY", "output": tmp_path / "run"}
        how |= {"limit": 4, "causal": causal, "causal_samples": 3}
        found = evaluate("served", "shapes", **how)
        asked = [len(pictures(body)) for body in endpoint.bodies]
        assert sorted(asked) == ([0] * 3 if causal == "full" else []) + [1] * 4
        again = evaluate("served", "shapes", **how)
        assert len(endpoint.bodies) == len(asked), "nothing is asked twice"
    assert again.tasks == found.tasks
    metrics = found.tasks["shapes"].metrics
    told = "an endpoint is asked without the images" in capsys.readouterr().err
    if causal == "fast":
        assert not {"blind", "visual_gain", "visual_dependence"} & metrics.keys()
        assert not told
        assert "causal" not in found.protocol
        return
    assert told
    assert [metrics[name].n for name in ("blind", "visual_gain")] == [3, 3]
    assert metrics["mirage"].value is None, "no answer is right with the image, either"
    assert not {"swap", "stubborn", "visual_dependence"} & metrics.keys()
    assert found.protocol["causal"]["blind"] == "removed"
