"""The smallest random inputs that SwiftBrush's training script accepts."""

import json
from pathlib import Path

import numpy as np
import torch

from tests.adapters.dmd2.inputs import MAX_TOKENS, TEXT_DIM, make_pipeline

PARTS = {
    "scheduler": ("diffusers", "DDIMScheduler"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "safety_checker": (None, None),
    "feature_extractor": (None, None),
}


def make_inputs(folder: Path, num_prompts: int) -> None:
    """Write sd15/, a whole pipeline, prompts.txt, and prompts/, embeddings as prepare.py's."""
    torch.manual_seed(0)
    make_pipeline(folder / "sd15", sdxl=False)
    index = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False, **PARTS}
    (folder / "sd15" / "model_index.json").write_text(json.dumps(index))
    (folder / "prompts.txt").write_text("red dog\n" * num_prompts)
    (folder / "prompts").mkdir()
    rng = np.random.default_rng(0)
    for number in range(num_prompts):
        embedding = rng.standard_normal((MAX_TOKENS, TEXT_DIM)).astype(np.float32)
        np.save(folder / "prompts" / f"{number}.npy", embedding)
