"""What a run keeps as it goes, so that a killed one goes on and a finished one can be judged again.

`journal` is the file itself: append-only lines under a lock. `book` is a run's folder: `records.jsonl` (`record`), one
line a response; `attention.jsonl` (`attention`), where the model looked; `causal.jsonl` and `altered.jsonl` (`causal`),
what answers owe to images; `protocols.jsonl`, how it was asked. A session appends to them; `avar_eval.results`, `score`
and `diagnosis` read them.
"""
