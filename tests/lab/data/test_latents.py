"""Latents in files come in order, each with its own prompt."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from disback_plugin.errors import DataError
from disback_plugin.lab.data.latents import is_latents, open_latents

LATENTS = torch.randn(7, 4, 2, 2, generator=torch.Generator().manual_seed(0)).bfloat16()
PROMPTS = ["a", "b", "", "d", "e", "f", ""]


@pytest.fixture
def folder(tmp_path):
    save_file({"latents": LATENTS[:3].contiguous()}, tmp_path / "000.safetensors")
    np.save(tmp_path / "001.npy", LATENTS[3:].float().numpy())
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    return tmp_path


def test_files_in_order_of_name_share_one_list_of_prompts(folder):
    assert is_latents(folder)
    source = open_latents(folder)
    latents, prompts = zip(*source.rows(len(source)), strict=True)
    assert np.array_equal(np.stack(latents), LATENTS.float().numpy())
    assert list(prompts) == PROMPTS


def test_a_limit_takes_latents_from_all_over_with_their_prompts(folder):
    latents, prompts = zip(*open_latents(folder).rows(3), strict=True)
    assert np.array_equal(np.stack(latents), LATENTS[[0, 2, 4]].float().numpy())
    assert prompts == ("a", "", "e")


def test_what_does_not_fit_is_refused_by_name(folder):
    (folder / "prompts.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"prompts\.txt has 2 lines for 7 latents"):
        open_latents(folder)
    (folder / "prompts.txt").unlink()
    with pytest.raises(DataError, match=r"prompts\.txt is missing: .* each of 7 latents"):
        open_latents(folder)
    np.save(folder / "001.npy", np.zeros((2, 4)))
    with pytest.raises(DataError, match=r"001\.npy: latents have shape \(2, 4\)"):
        open_latents(folder)
    for wrong in (np.zeros((2, 4, 1, 1), complex), np.full((2, 4, 1, 1), "x")):
        np.save(folder / "001.npy", wrong)
        with pytest.raises(DataError, match=r"001\.npy: latents are of type [cU]\d+, not float"):
            open_latents(folder)
    np.save(folder / "001.npy", np.array([None]))
    with pytest.raises(DataError, match=r"001\.npy cannot be read: .*[Oo]bject"):
        open_latents(folder)
    save_file({"weight": LATENTS}, folder / "000.safetensors")
    with pytest.raises(DataError, match=r"000\.safetensors has no tensor 'latents', but weight"):
        open_latents(folder)
    (folder / "000.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"000\.safetensors cannot be read"):
        open_latents(folder)


def test_a_folder_without_latents_is_none(tmp_path):
    assert not is_latents(tmp_path)
    assert not is_latents(tmp_path / "nowhere")
