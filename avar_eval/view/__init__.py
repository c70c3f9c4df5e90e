"""Runs as a page for a browser: every question with its pictures, answer, verdicts and measures.

`avar_eval.view.page.build_viewer` writes a static folder that needs no server and no network; `avar_eval.view.server`
shows one on this machine. `avar-eval view` is the command.
"""
