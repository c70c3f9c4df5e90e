"""The folder `avar_eval/attention` can be taken elsewhere: with `errors.py` it is all that `observe` needs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from decoders import batch, qwen, roles_of

import avar_eval
from avar_eval.attention.observe import observe

PACKAGE = Path(avar_eval.__file__).parent
TURNS = "sssstvvvvvvvtuuuuutrrrr"

PROGRAM = """
import importlib, importlib.util, pkgutil, sys
import torch
import avar_eval.attention
from avar_eval.attention.observe import observe
from decoders import batch, qwen, roles_of

assert importlib.util.find_spec("avar_eval.errors"), "what was copied is seen"
assert not importlib.util.find_spec("avar_eval.answers"), "and nothing else of ours"
for module in pkgutil.iter_modules(avar_eval.attention.__path__, "avar_eval.attention."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:  # torch for CPUs comes without
        assert error.name == "triton", error
torch.set_num_threads(1)
roles = roles_of(sys.argv[1])
with torch.no_grad(), observe(model := qwen(), roles) as observation:
    model(**batch(roles), use_cache=False)
torch.save(observation.masses(), "masses.pt")
"""


def test_observe_needs_nothing_but_its_folder_and_errors(tmp_path: Path) -> None:
    taken = tmp_path / "avar_eval"
    shutil.copytree(PACKAGE / "attention", taken / "attention")
    shutil.copy(PACKAGE / "errors.py", taken)
    (taken / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("decoders.py"), tmp_path)
    # -S: no .pth file and no finder of an editable install, which would find the rest of ours
    command = [sys.executable, "-S", "-c", PROGRAM, TURNS]
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    roles = roles_of(TURNS)
    with torch.no_grad(), observe(model := qwen(), roles) as observation:
        model(**batch(roles), use_cache=False)
    masses = torch.load(tmp_path / "masses.pt")
    assert masses.shape == (3, 1, 4, 9, 6), "layers, batch, heads, queries, groups"
    assert torch.allclose(masses, observation.masses(), rtol=1e-5)
