"""Published models in Hugging Face transformers: importing this room registers them.

    import stroke_hub.transformers
    from transformers import pipeline

    classify = pipeline("image-classification", model="owner/name")  # or a run folder
    classify("slice.png")  # [{"label": "Stroke", "score": ...}, {"label": "Normal", "score": ...}]

`AutoConfig`, `AutoModelForImageClassification` and `AutoImageProcessor` load these models, too. No code of a
repository is run: `trust_remote_code` is not needed. Probabilities and the names of the classes are those of
`predict`. What transformers has no place for is left out:

- The threshold. The first label of a pipeline is the likelier one; `predict` calls a slice Stroke from the model's
  own threshold, which is `classify.model.network.threshold`.
- The warning of slices unlike the training slices, the remarks, contributions and heatmaps. `predict` and `explain`
  take `classify.model.network`, which is the `ResNetViT`.
- Files other than opaque pictures of 8 bits. A pipeline makes RGB of 8 bits of every picture, before this package
  sees it. The image processor itself takes all that `predict` takes.
- Training. Use ``stroke-hub train``.

Repositories that were published before config.json had a `model_type` are unknown to `AutoConfig`. Their two parts
load by name: `StrokeHubForImageClassification` of `model` and `StrokeHubImageProcessor` of `image_processor`, each
by `from_pretrained`. `pipeline` takes them as its `model` and `image_processor`.
"""

from stroke_hub.transformers import registration  # noqa: F401 (it registers)
