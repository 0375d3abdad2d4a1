"""A tiny random CLIP, built without a network."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_pipeline import WORDS, word_tokenizer
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

CAPTIONS = ["a red chair", "a blue ball", "a blue chair"]


def save_tiny_clip(folder: Path) -> Path:
    """Write a CLIP of 32 x 32 pixels with random weights, the same ones each time; return the folder."""
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 3 + len(WORDS), "max_position_embeddings": 12, "eos_token_id": 1}
    config = CLIPConfig(
        text_config={**text, "bos_token_id": 2, "pad_token_id": 0},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return folder
