"""Put a hook into this environment that lets PyPI's torchvision be imported where torch was built without CUDA.

That torchvision's operators are in a library linked against CUDA, which cannot be loaded then, and its import ends at
the first operator that it describes. What vLLM and transformers use of it is Python; for that the names are enough.
"""

import sysconfig
from pathlib import Path

HOOK = '''
import sys
from importlib.machinery import PathFinder

class NameOperators:
    """On the first import of torchvision: give torch the operators' names."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "torchvision":
            return None
        sys.meta_path.remove(cls)
        import torch

        if torch.version.cuda is None:
            cls.library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                cls.library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return PathFinder.find_spec(name)

sys.meta_path.insert(0, NameOperators)
'''

if __name__ == "__main__":
    packages = Path(sysconfig.get_path("purelib"))
    (packages / "_torchvision_beside_cpu_torch.py").write_text(HOOK)
    (packages / "_torchvision_beside_cpu_torch.pth").write_text("import _torchvision_beside_cpu_torch\n")
