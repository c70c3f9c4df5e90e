"""What lmms-eval loads through the entry-point group `lmms_eval.models`: `lmms-eval --model avar` is our model."""

from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> ModelManifest:
    """The manifest of the model `avar`."""
    return ModelManifest(model_id="avar", chat_class_path="avar_eval.run.lmms_model.Avar")
