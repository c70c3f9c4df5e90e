"""Numbers of keys against a dict, and what they take of memory."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from avar_eval.records.key_numbers import KeyNumbers


@given(st.lists(st.text(max_size=4)))
def test_they_are_those_of_a_dict(keys: list[str]) -> None:
    numbers, known = KeyNumbers(), dict[str, int]()
    for key in keys:
        assert numbers.get(key) == known.get(key)
        assert numbers.add(key) == known.setdefault(key, len(known))
    assert len(numbers) == len(known)
    assert [numbers.get(key) for key in keys] == [known[key] for key in keys]
    assert numbers.get("a key that is not there") is None


def test_a_hundred_thousand_keys_take_less_than_four_megabytes() -> None:
    tracemalloc.start()
    numbers = KeyNumbers()
    for number in range(100_000):
        numbers.add(f"{number:064x}")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3.5e6
    assert numbers.get(f"{99_999:064x}") == 99_999
    assert numbers.get(f"{100_000:064x}") is None
