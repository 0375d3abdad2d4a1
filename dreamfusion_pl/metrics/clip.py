"""CLIP for R-Precision (paper section 4, table 1)."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.loading.library_logging import quiet
from dreamfusion_pl.metrics.retrieval import Judge

PAPER_MODELS = (  # B/32, B/16, L/14 of table 1
    "openai/clip-vit-base-patch32",
    "openai/clip-vit-base-patch16",
    "openai/clip-vit-large-patch14",
)


@final
class ClipJudge(Judge):
    """Cosine similarity between CLIP's embeddings of image and caption.

    Args:
        model: a folder, or the hub name of a model in the cache.
        device: device that it runs on.

    Raises:
        ValueError: the model is missing; the message says how to get it.
    """

    def __init__(self, model: str, device: torch.device | str = "cpu") -> None:
        with quiet():
            from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

            try:
                self._model: Any = CLIPModel.from_pretrained(model, local_files_only=True).eval().to(device)
                self._tokenizer: Any = AutoTokenizer.from_pretrained(model, local_files_only=True)
                self._processor: Any = AutoImageProcessor.from_pretrained(
                    model, local_files_only=True, backend="pil"
                )
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"no CLIP model {model!r} on this disk: fetch it with `hf download {model}`, or pass the "
                    f"folder of one as --clip FOLDER"
                ) from error
        self.name = f"CLIP {model.rstrip('/').rpartition('/')[2]}"

    @torch.no_grad()
    def similarity(self, pictures: Tensor, captions: list[str]) -> Tensor:
        device = self._model.device
        images = [(picture * 255.0).round().byte().numpy() for picture in pictures.detach().cpu().clamp(0, 1)]
        pixels = self._processor(images=images, return_tensors="pt").pixel_values.to(device)
        length = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            captions, padding=True, truncation=True, max_length=length, return_tensors="pt"
        ).to(device)
        output = self._model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=pixels
        )
        return (output.image_embeds @ output.text_embeds.T).cpu()
