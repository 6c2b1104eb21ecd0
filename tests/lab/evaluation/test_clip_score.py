"""The CLIP score on a tiny model in open_clip's own format."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from disback_plugin.errors import ConfigError, DataError
from disback_plugin.lab.evaluation.clip_score import (
    MODEL,
    PREFIX,
    ClipNetwork,
    clip_score,
    open_clip_network,
    prompts_of,
)
from disback_plugin.lab.evaluation.measuring import Workplace
from disback_plugin.lab.evaluation.samples import open_samples
from disback_plugin.sealed import write_sealed

open_clip = pytest.importorskip("open_clip")
CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 8, "head_width": 4, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}
PROMPTS = ["a red square", "a dog", "two cats on a mat"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipNetwork:
    folder = tmp_path_factory.mktemp("clip")
    (folder / "disback-tiny.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / "disback-tiny.json")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model("disback-tiny")
    save_file(model.state_dict(), folder / "tiny.safetensors")
    return open_clip_network(folder / "tiny.safetensors", "disback-tiny")


def test_the_score_is_the_mean_cosine_of_image_and_its_prompt(
    clip: ClipNetwork, samples: Path, place: Workplace
) -> None:
    images = open_samples(samples)
    prompts = [PROMPTS[number % 3] for number in range(len(images))]
    found = clip_score(images, prompts, clip, place)
    cosines = []
    for file, prompt in zip(sorted(samples.iterdir()), prompts, strict=True):
        picture = Image.open(file).convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)
        with torch.no_grad():
            one = clip.model.encode_image(clip.prepare(picture)[None])
            other = clip.model.encode_text(clip.tokenize([f"A photo depicts {prompt}"]))
        cosines.append(float(torch.nn.functional.cosine_similarity(one, other)))
    assert found == pytest.approx(sum(cosines) / len(cosines), abs=1e-6)


def test_the_prefix_is_dmd2s_also_where_a_prompt_is_cut(clip: ClipNetwork) -> None:
    """It puts the prefix's three tokens behind the start, and cuts at 77 with the end token."""
    for prompt in (*PROMPTS, "word " * 100):
        tokens = clip.tokenize([prompt])
        prefix = clip.tokenize([PREFIX])[:, 1:4]
        joined = torch.cat([tokens[:, :1], prefix, tokens[:, 1:]], dim=1)[:, :77]
        joined[:, 76][joined[:, 76] > 0] = 49407
        assert torch.equal(clip.tokenize([PREFIX + prompt]), joined)


def test_seed_i_has_prompt_i_modulo_their_number(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    images = open_samples(samples)
    assert prompts_of(images, tmp_path / "prompts.txt")[:5] == [*PROMPTS, *PROMPTS[:2]]
    with pytest.raises(ConfigError, match="--prompts FILE"):
        prompts_of(images, None)
    said = {"seeds": {"first": 0, "last": 22}, "prompts": {"file": "p.txt", "count": 9}}
    write_sealed(samples / "samples.json", said)
    with pytest.raises(ConfigError, match="has 3 prompts, the images were made of 9"):
        prompts_of(open_samples(samples), tmp_path / "prompts.txt")


def test_weights_that_could_run_code_are_refused(tmp_path: Path) -> None:
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"\.safetensors"):
        open_clip_network(tmp_path / "open_clip_pytorch_model.bin")
    assert MODEL == "ViT-g-14"
