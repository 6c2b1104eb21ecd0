"""DMD2's published code for a one-step SDXL, word for word, on an export of a tiny one."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from disback_plugin.lab.data import PromptSet
from disback_plugin.lab.export import export
from disback_plugin.lab.sampling import Asked, make_sampler, open_student, parse_seeds, sample
from tests.upstreams import find_checkout

DMD2 = find_checkout("DMD2", "README.md")
# where the snippet names a place, a GPU or its precision; the code itself is not touched
PLACES = {
    '"stabilityai/stable-diffusion-xl-base-1.0"': "BASE",
    '"cuda"': '"cpu"',
    "torch.float16": "torch.float32",
    "from huggingface_hub import hf_hub_download": "hf_hub_download = FETCH",
}


def published_snippet() -> str:
    assert DMD2 is not None
    text = (DMD2 / "README.md").read_text()
    found = re.search(r"#### 1-step UNet generation\s+```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    snippet = found[1]
    for place, ours in PLACES.items():
        assert place in snippet
        snippet = snippet.replace(place, ours)
    return snippet


@pytest.mark.skipif(DMD2 is None, reason="no checkout of DMD2 in third_party/ or DISBACK_UPSTREAMS")
@pytest.mark.parametrize("seed", [0, 5])
def test_the_published_snippet_makes_the_image_of_disback_sample(
    seed: int, files: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    pipe = StableDiffusionXLPipeline.from_pretrained(files / "sdxl")
    pipe.save_pretrained(base, variant="fp16")
    spec, options = f"diffusers:{base}", {"variant": "fp16"}
    student = open_student(spec, options, Asked(timestep=399))
    with torch.no_grad():
        for value in student.denoiser.parameters():
            value.mul_(1.1)
    export(student, tmp_path / "out", "bin", device="cpu")
    prompts = PromptSet("snippet", ["a photo of a cat"])
    seeds = parse_seeds(str(seed))
    sample(make_sampler(student, seeds, prompts=prompts, device="cpu"), tmp_path / "o.npz", 1)
    expected = np.load(tmp_path / "o.npz")["arr_0"][0]

    code = published_snippet()
    load, ask = code[: code.index("image=")], code[code.index("image=") :]
    fetched = lambda repo, name: str(tmp_path / "out" / "student_unet.bin")  # noqa: E731
    names: dict[str, Any] = {"BASE": str(base), "FETCH": fetched}
    exec(load, names)
    torch.manual_seed(seed)
    exec(ask, names)
    apart = np.abs(np.asarray(names["image"]).astype(int) - expected.astype(int))
    # the same formula in another order of float32 operations: a value in thousands rounds apart
    assert apart.max() <= 1
    assert (apart > 0).mean() < 1e-3
    assert expected.std() > 1
