"""Register the model with the Auto classes of transformers; importing this module does it."""

from stroke_hub.extras import name_extras

with name_extras("stroke_hub.transformers", "transformers"):
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

    from stroke_hub.transformers.configuration import StrokeHubConfig
    from stroke_hub.transformers.image_processor import StrokeHubImageProcessor
    from stroke_hub.transformers.model import StrokeHubForImageClassification

__all__: list[str] = []

AutoConfig.register(StrokeHubConfig.model_type, StrokeHubConfig, exist_ok=True)
AutoModelForImageClassification.register(StrokeHubConfig, StrokeHubForImageClassification, exist_ok=True)
AutoImageProcessor.register(
    # what a model sees does not depend on a backend
    StrokeHubConfig,
    image_processor_classes=dict.fromkeys(("pil", "torchvision"), StrokeHubImageProcessor),
    exist_ok=True,
)
