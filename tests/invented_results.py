"""The content of an invented results.json."""

from typing import Any

from avar_eval.results.schema import run_id


def invented_results() -> dict[str, Any]:
    """shapes in full, with attention; mathvista in part, as an earlier version wrote it: without a headline, without a
    measured VAS and with rows left out."""
    return with_run_id(
        {
            "schema": 1,
            "run_id": "",
            "tasks": {
                "shapes": {
                    "metrics": {
                        "accuracy": {"value": 0.91, "ci95": [0.8817, 0.9321], "n": 500},
                        "vas": {"value": 12.34567, "ci95": [11.5, 13.25], "n": 200},
                        "vas_response": {"value": 8.5, "ci95": [8.0, 9.0], "n": 200},
                        "truncated": {"value": 0.004, "ci95": [0.001, 0.0145], "n": 500},
                        "unparsed": {"value": 0.0, "ci95": [0.0, 0.0076], "n": 500},
                    },
                    "benchmark": {},
                    "headline": {
                        "name": "accuracy",
                        "values": {
                            "strict": {"value": 0.91, "ci95": [0.8817, 0.9321], "n": 500},
                            "official": {"value": 0.43, "ci95": [0.387, 0.474], "n": 480},
                        },
                    },
                    "vas_band": "wide",
                    "left_out": {"n": 0, "ids": [], "reason": ""},
                },
                "mathvista": {
                    "metrics": {
                        "accuracy": {"value": 1 / 3, "ci95": [0.0615, 0.7923], "n": 3},
                        "vas": {"value": None, "ci95": None, "n": 0},
                        "vas_response": {"value": None, "ci95": None, "n": 0},
                        "truncated": {"value": 0.0, "ci95": [0.0, 0.5615], "n": 3},
                        "unparsed": {"value": None, "ci95": None, "n": 0},
                        "accuracy_by_judge": {"value": 0.5, "ci95": None, "n": 3},
                    },
                    "vas_band": None,
                    "left_out": {"n": 2, "ids": ["7", "9"], "reason": "its picture is missing"},
                },
            },
            "protocol": {
                "model": "avar-tiny",
                "revision": None,
                "weights_sha256": "ab" * 32,
                "system_prompt": "You are helpful.",
                "decoding": {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 512, "samples": 1, "seed": 0},
                "steering": None,
                "prompt_sha256": {"shapes": "12" * 32, "mathvista": "34" * 32},
                "grader": {"shapes": "1", "mathvista": "1"},
                "attention": {"samples": 200},
                "versions": {"avar_eval": "0.1.0"},
                "seed": 0,
                "limit": None,
                "command": "avar-eval --model avar-tiny --tasks shapes,mathvista",
            },
        }
    )


def with_run_id(results: dict[str, Any]) -> dict[str, Any]:
    """The same with the run_id of its protocol."""
    return results | {"run_id": run_id(results["protocol"])}
