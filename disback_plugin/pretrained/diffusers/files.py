"""Parts of a diffusers folder or hub repository: safetensors only, every tensor accounted for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from disback_plugin.config_base import nearest
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.foreign_weights import translated
from disback_plugin.pretrained.diffusers.settings import check_model, read_schedule
from disback_plugin.pretrained.formats import take_options
from disback_plugin.reading import shown
from disback_plugin.shards import read_json, weight_files

UNETS = ("UNet2DModel", "UNet2DConditionModel")
OPTIONS: dict[str, Any] = {
    "variant": None,
    "revision": None,
    "nearest_t": True,  # these models know whole timesteps only
    "lcm": None,  # default: where the scheduler is LCM's
    "lora": None,
    "guidance_scale": 1.0,
    "negative_prompt": None,  # default: the pipeline's own
    "sample_size": None,  # of latents, where a transformer's config does not say
    "dtype": "float32",  # of the denoiser's weights
    "text_dtype": "float32",  # of the text encoders'
    "max_sequence_length": None,  # of prompts, in tokens; default: the pipeline's own
    "embedded_guidance": None,  # what a network with guidance embeddings is told; the pipeline's
}
TYPES = {"variant": str, "revision": str, "lcm": bool, "lora": str, "negative_prompt": str}
TYPES |= {"sample_size": list, "dtype": str, "max_sequence_length": int, "embedded_guidance": float}
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A pipeline in diffusers' layout: a local folder, or the id of a repository on the hub.

    The U-Net lies in `unet/` with `scheduler/` beside it, or both lie at the top (as in
    google/ddpm-cifar10-32); `unet/` itself may be named too. `variant` picks weights such as
    `fp16`, `revision` a version on the hub, `dtype` is the denoiser's once it is loaded.
    """

    location: str
    variant: str | None = None
    revision: str | None = None
    dtype: torch.dtype = torch.float32

    def transformer(self) -> str | None:
        """The class of a denoiser that is a transformer: in `transformer/`, or at the top."""
        part = self.read_json("config.json", "transformer")
        own = part if part is not None else self.read_json("config.json") or {}
        name = str(own.get("_class_name"))
        return name if part is not None or "Transformer" in name else None

    def unet(self, kinds: Collection[str] = UNETS, part: str = "unet") -> nn.Module:
        """The U-Net; CheckpointError for another class, missing weights or weights left over.

        part: `transformer` where it is one.
        """
        return self._model(part, kinds, self.dtype)

    def vae(self, kinds: Collection[str]) -> nn.Module:
        """The VAE of a latent model; CheckpointError where there is none, or of another class."""
        return self._model("vae", kinds)

    def _model(
        self, part: str, kinds: Collection[str], dtype: torch.dtype = torch.float32
    ) -> nn.Module:
        """A part that is a model of diffusers."""
        folder, config = self._find(part, "config.json")
        name = str(config.get("_class_name"))
        if name not in kinds:
            raise CheckpointError(
                f"{self.location} holds a {name}, no {' or '.join(kinds)} of diffusers"
            )
        check_model(self._named("config.json", folder), config)
        what = f"the {name} in {self.location} does not load"
        self.check_files(what, folder, "diffusion_pytorch_model")
        with translated(what):
            model, found = getattr(diffusers, name).from_pretrained(
                self.location,
                subfolder=folder,
                variant=self.variant,
                revision=self.revision,
                torch_dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
            )
        self.refuse_misfits(name, found)
        return model.eval()

    def schedule(self) -> tuple[Tensor, dict[str, Any]]:
        """alphas_cumprod (T,) as the pipeline's own scheduler has it, and the scheduler's config.

        Raises CheckpointError for one that is no discrete VP diffusion.
        """
        return read_schedule(*self.scheduler())

    def scheduler(self) -> tuple[str, dict[str, Any]]:
        """The scheduler's file, for messages, and the config; CheckpointError where none is."""
        folder, config = self._find("scheduler", "scheduler_config.json")
        return self._named("scheduler_config.json", folder), config

    def read_json(self, file: str, folder: str = "") -> dict[str, Any] | None:
        """A JSON file of the repository; None where there is no such file."""
        path = self._local(folder, file)
        return None if path is None else read_json(path)

    def _local(self, folder: str, file: str) -> Path | None:
        """Where a file lies on this machine, fetched from the hub if need be; None without it."""
        inner = f"{folder}/{file}" if folder else file
        local = Path(self.location)
        path = local / inner if local.exists() else self._download(inner)
        return path if path is not None and path.is_file() else None

    def _named(self, file: str, folder: str) -> str:
        """A file of the repository, for messages."""
        return "/".join(part for part in (self.location, folder, file) if part)

    def check_files(self, what: str, folder: str, stem: str) -> None:
        """Raise CheckpointError, which says `what`, unless a part's weights are all there."""
        try:
            weight_files(
                partial(self._local, folder), partial(self._names, folder), stem, self.variant
            )
        except CheckpointError as error:
            raise CheckpointError(f"{what}: {error}") from None

    def _names(self, folder: str) -> list[str]:
        """The files in a folder of the repository."""
        local = Path(self.location)
        if local.exists():
            return sorted(file.name for file in (local / folder).iterdir())
        from huggingface_hub import HfApi

        with translated(f"the files of {self.location} cannot be listed"):
            every = HfApi().list_repo_files(self.location, revision=self.revision)
        paths = [Path(name) for name in every]
        return [path.name for path in paths if path.parent == Path(folder)]

    def refuse_misfits(self, kind: str, found: dict[str, Any]) -> None:
        """The libraries only warn where weights are missing, left over or of another shape."""
        problems = {what: names for what, names in found.items() if names}
        if problems:
            listed = "; ".join(f"{what}: {sorted(map(str, n))[:3]}" for what, n in problems.items())
            raise CheckpointError(f"the weights in {self.location} do not fit its {kind}: {listed}")

    def _download(self, file: str) -> Path | None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        with translated(f"{self.location!r} is no folder here and could not be had from the hub"):
            try:
                return Path(hf_hub_download(self.location, file, revision=self.revision))
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError):  # the hub could not be asked
                    raise
                return None

    def _find(self, part: str, file: str) -> tuple[str, dict[str, Any]]:
        """The subfolder ('' for the top) that holds a part, and its config."""
        beside = ["../scheduler"] if part == "scheduler" and Path(self.location).is_dir() else []
        for folder in (part, "", *beside):
            config = self.read_json(file, folder)
            if config is not None:
                return folder, config
        pipeline = (self.read_json("model_index.json") or {}).get("_class_name")
        seen = f" (it is a {shown(pipeline)})" if pipeline else ""
        raise CheckpointError(
            f"{self.location} has no {part}: neither {part}/{file} nor {file} is there{seen}"
        )


def make_repository(location: str, options: Mapping[str, Any]) -> Repository:
    """The repository that location and options name."""
    given = take_options(options, "diffusers", OPTIONS, TYPES)
    named = {name: given[name] for name in ("variant", "revision")}
    return Repository(location=location, dtype=chosen_dtype(given, "dtype"), **named)


def chosen_dtype(options: Mapping[str, Any], name: str) -> torch.dtype:
    """What an option names; ConfigError for no dtype that is known."""
    dtype = DTYPES.get(options[name])
    if dtype is None:
        seen, hint = shown(options[name]), nearest(options[name], list(DTYPES))
        raise ConfigError(f"option {name!r} is {seen}; {hint}")
    return dtype
