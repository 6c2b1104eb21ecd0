"""CLIP score as DMD2 measures it: ViT-g-14 of open_clip, prompts begun by "A photo depicts ".

Mean cosine of image and prompt, over images whose centre square is resized to 256 (Lanczos) before
CLIP's own preparation. Hessel et al. 2021, tianweiy/DMD2: main/coco_eval.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from disback_plugin.errors import ConfigError, DataError
from disback_plugin.files import sha256
from disback_plugin.lab.data import load_prompts
from disback_plugin.lab.data.optional import needed
from disback_plugin.lab.evaluation.measuring import Workplace
from disback_plugin.lab.evaluation.network_files import CLIP, find_file
from disback_plugin.lab.evaluation.protocol import Pixels
from disback_plugin.lab.evaluation.samples import Images

MODEL, PREFIX = "ViT-g-14", "A photo depicts "
PIXELS = Pixels(resize="inside", crop="square", size=256)


@dataclass(frozen=True, kw_only=True)
class ClipNetwork:
    """A FeatureNetwork of images, and the same space for texts: unit vectors (n, d)."""

    name: str
    digest: str | None
    model: Any
    prepare: Callable[[Any], Tensor]
    tokenize: Callable[[Sequence[str]], Tensor]
    layers: tuple[str, ...] = ("pool",)
    has_classes: bool = False

    def to(self, device: torch.device) -> "ClipNetwork":
        self.model.to(device)
        return self

    @torch.no_grad()
    def features(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        pil = needed("PIL.Image", "CLIP's preparation", extra="eval")
        arrays = images.permute(0, 2, 3, 1).cpu().numpy()
        prepared = torch.stack([self.prepare(pil.fromarray(array)) for array in arrays])
        return {"pool": self.model.encode_image(prepared.to(images.device), normalize=True).float()}

    def classes(self, pool: Tensor) -> Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def texts(self, prompts: Sequence[str], device: torch.device) -> Tensor:
        """(n, d) on the CPU."""
        tokens = self.tokenize([PREFIX + prompt for prompt in prompts]).to(device)
        return self.model.encode_text(tokens, normalize=True).float().cpu()


def open_clip_network(file: Path, model: str = MODEL) -> ClipNetwork:
    """open_clip's `model` with the weights in `file`; nothing is downloaded, nothing unpickled."""
    open_clip = needed("open_clip", "the CLIP score", extra="eval")
    if file.suffix != ".safetensors":
        raise DataError(f"{file}: CLIP's weights are read from a .safetensors file")
    try:
        built, _, prepare = open_clip.create_model_and_transforms(model, pretrained=str(file))
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{file} does not hold the weights of {model}: {error}") from None
    return ClipNetwork(
        name=CLIP.name if model == MODEL else model,
        digest=sha256(file),
        model=built.eval().requires_grad_(False),
        prepare=prepare,
        tokenize=open_clip.get_tokenizer(model),
    )


def measure_clip(
    images: Images, prompts: Path | None, networks: Path | None, place: Workplace
) -> dict[str, float]:
    """{"CLIP score": mean cosine} of all images, each with its prompt."""
    texts = prompts_of(images, prompts)
    return {
        "CLIP score": clip_score(images, texts, open_clip_network(find_file(CLIP, networks)), place)
    }


def clip_score(
    images: Images, prompts: Sequence[str], network: ClipNetwork, place: Workplace
) -> float:
    """The mean over images of the cosine between image i and prompt i."""
    store = place.measure("clip", images, PIXELS, network, network.layers)
    total, start = 0.0, 0
    for piece in store.pieces("pool"):
        rows = network.texts(prompts[start : start + len(piece)], place.device)
        total += float((piece.double() * rows.double()).sum())
        start += len(piece)
    return total / len(images)


def prompts_of(images: Images, file: Path | None) -> list[str]:
    """Each image's: that of seed i is prompt i, modulo their number, as `disback sample` has it.

    Raises ConfigError where no file is given, or it has another number of them than was sampled.
    """
    said = (images.said or {}).get("prompts") or {}
    if file is None:
        name = f" ({said['file']})" if "file" in said else ""
        raise ConfigError(
            f"the CLIP score needs the prompts{name}: give --prompts FILE, or leave it out "
            "(--numbers fid)"
        )
    prompts = load_prompts(file)
    if len(prompts) != said.get("count", len(prompts)):
        raise ConfigError(
            f"{file} has {len(prompts):,} prompts, the images were made of {said['count']:,}"
        )
    return [prompts[int(seed) % len(prompts)] for seed in images.seeds]
