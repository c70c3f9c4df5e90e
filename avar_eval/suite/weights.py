"""The weights that a finished run of a suite was of: those of a folder may change under its name."""

from pathlib import Path

from avar_eval.errors import AvarError
from avar_eval.models.checkpoint import locate, weights_sha256
from avar_eval.run.model import ResolvedModel


class FolderWeights:
    """The SHA-256 of checkpoints in folders, each folder read once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def sha256(self, model: ResolvedModel) -> str | None:
        """As results have it (`weights_sha256`); None where the weights are in no folder, or only a server has them.

        A repository of the hub keeps what a revision has. Where a folder has no whole weights it is "", which no
        results have: the run itself says what is wrong.
        """
        source = model.weights
        if source is None or source.folder is None:
            return None
        if source.folder not in self._known:
            try:
                self._known[source.folder] = weights_sha256(locate(source))
            except AvarError:
                self._known[source.folder] = ""
        return self._known[source.folder]
