"""Parts of a diffusers folder or hub repository: safetensors only, every tensor accounted for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor, nn

from disback_plugin.errors import CheckpointError
from disback_plugin.pretrained.formats import take_options

UNETS = ("UNet2DModel", "UNet2DConditionModel")
OPTIONS: dict[str, Any] = {
    "variant": None,
    "revision": None,
    "nearest_t": True,  # these models know whole timesteps only
    "lcm": None,  # default: where the scheduler is LCM's
    "lora": None,
    "guidance_scale": 1.0,
    "negative_prompt": None,  # default: the pipeline's own
}


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A pipeline in diffusers' layout: a local folder, or the id of a repository on the hub.

    The U-Net lies in `unet/` with `scheduler/` beside it, or both lie at the top (as in
    google/ddpm-cifar10-32); `unet/` itself may be named too. `variant` picks weights such as
    `fp16`, `revision` a version on the hub.
    """

    location: str
    variant: str | None = None
    revision: str | None = None

    def unet(self, kinds: tuple[str, ...] = UNETS) -> nn.Module:
        """The U-Net; CheckpointError for another class, missing weights or weights left over."""
        folder, config = self._find("unet", "config.json")
        name = str(config.get("_class_name"))
        if name not in kinds:
            raise CheckpointError(
                f"{self.location} holds a {name}, no {' or '.join(kinds)} of diffusers"
            )
        load = getattr(diffusers, name).from_pretrained
        try:
            unet, found = load(
                self.location,
                subfolder=folder,
                variant=self.variant,
                revision=self.revision,
                torch_dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise CheckpointError(f"the {name} in {self.location} does not load: {error}") from None
        self._refuse_misfits(name, found)
        return unet.eval()

    def text_pipeline(self) -> Any:
        """A Stable Diffusion pipeline that has nothing but its text encoders, frozen."""
        index = self.read_json("model_index.json") or {}
        names = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        classes = {name: index[name][1] for name in names if index.get(name, [None, None])[1]}
        if "text_encoder" not in classes:
            raise CheckpointError(f"{self.location} names no text_encoder in a model_index.json")
        parts = {name: self._text_part(name, kind) for name, kind in classes.items()}
        nothing = {"vae": None, "unet": None, "scheduler": None}
        if "text_encoder_2" in parts:
            zeros = bool(index.get("force_zeros_for_empty_prompt", True))
            return diffusers.StableDiffusionXLPipeline(
                **nothing, **parts, force_zeros_for_empty_prompt=zeros, add_watermarker=False
            )
        return diffusers.StableDiffusionPipeline(
            **nothing,
            **parts,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def schedule(self) -> tuple[Tensor, dict[str, Any]]:
        """alphas_cumprod (T,) as the pipeline's own scheduler has it, and the scheduler's config.

        Raises CheckpointError for one that is no discrete VP diffusion.
        """
        config = self.scheduler()
        kind = getattr(diffusers, str(config.get("_class_name")), None)
        if kind is None:
            raise CheckpointError(f"diffusers has no scheduler {config.get('_class_name')!r}")
        scheduler = kind.from_config(config)
        bars = getattr(scheduler, "alphas_cumprod", None)
        if bars is None:
            raise CheckpointError(
                f"the {kind.__name__} of {self.location} has no alphas_cumprod: it is no discrete "
                "variance-preserving diffusion"
            )
        return bars, dict(scheduler.config)

    def scheduler(self) -> dict[str, Any]:
        """The scheduler's config; CheckpointError where there is none."""
        return self._find("scheduler", "scheduler_config.json")[1]

    def read_json(self, file: str, folder: str = "") -> dict[str, Any] | None:
        """A JSON file of the repository; None where there is no such file."""
        inner = f"{folder}/{file}" if folder else file
        local = Path(self.location)
        path = local / inner if local.exists() else self._download(inner)
        if path is None or not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise CheckpointError(f"{path} is not valid JSON: {error}") from None

    def _text_part(self, folder: str, kind: str) -> Any:
        """A text encoder or tokenizer; the class is transformers' own."""
        load = getattr(transformers, kind).from_pretrained
        where = {"subfolder": folder, "revision": self.revision or "main"}
        try:
            if folder.startswith("tokenizer"):
                return load(self.location, **where)
            encoder, found = load(
                self.location,
                **where,
                variant=self.variant,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder} in {self.location} does not load: {error}") from None
        self._refuse_misfits(kind, found)
        return encoder.eval().requires_grad_(False)

    def _refuse_misfits(self, kind: str, found: dict[str, Any]) -> None:
        """The libraries only warn where weights are missing, left over or of another shape."""
        problems = {what: names for what, names in found.items() if names}
        if problems:
            listed = "; ".join(f"{what}: {sorted(map(str, n))[:3]}" for what, n in problems.items())
            raise CheckpointError(f"the weights in {self.location} do not fit its {kind}: {listed}")

    def _download(self, file: str) -> Path | None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return Path(hf_hub_download(self.location, file, revision=self.revision))
        except (OSError, ValueError) as error:
            offline = isinstance(error, LocalEntryNotFoundError)
            if isinstance(error, EntryNotFoundError) and not offline:
                return None
            raise CheckpointError(
                f"{self.location!r} is no folder here and could not be had from the hub: {error}"
            ) from None

    def _find(self, part: str, file: str) -> tuple[str, dict[str, Any]]:
        """The subfolder ('' for the top) that holds a part, and its config."""
        beside = ["../scheduler"] if part == "scheduler" and Path(self.location).is_dir() else []
        for folder in (part, "", *beside):
            config = self.read_json(file, folder)
            if config is not None:
                return folder, config
        raise CheckpointError(
            f"{self.location} has no {part}: neither {part}/{file} nor {file} is there"
        )


def make_repository(location: str, options: Mapping[str, Any]) -> Repository:
    """The repository that location and options name."""
    given = take_options(options, "diffusers", OPTIONS)
    return Repository(location=location, variant=given["variant"], revision=given["revision"])
