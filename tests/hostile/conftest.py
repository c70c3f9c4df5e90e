"""Every server of these tests is asked with the same key, which nobody may show."""

import pytest
from hostile_server import KEY


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
