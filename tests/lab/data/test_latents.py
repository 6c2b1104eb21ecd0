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


def numbered(folder, *names):
    for number, name in enumerate(names):
        np.save(folder / f"{name}.npy", np.full((1, 4, 1, 1), number, np.float32))
    return folder


def test_numbered_files_meet_their_prompts_by_number(tmp_path):
    numbered(tmp_path, *(f"latents_{number}" for number in range(12)))
    (tmp_path / "prompts.txt").write_text("".join(f"{number}\n" for number in range(12)))
    (tmp_path / "._latents_0.npy").write_bytes(b"what macOS leaves")
    source = open_latents(tmp_path)
    assert [prompt for _, prompt in source.rows(12)] == [
        str(int(latent.max())) for latent, _ in source.rows(12)
    ]
    assert source.sample(11) == "latents_11.npy, row 0 -> 11"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\n", None),
        (b"\xef\xbb\xbfa\r\nb\r\n", None),
        (b"a\nb\n\n", r"prompts\.txt has 3 lines for 2 latents, 1 of them blank"),
        (b"a\rb\n", r"prompts\.txt has 1 line for 2 latents"),
        (b"a\rb\nc", r"line 1 has a bare CR in it"),
        (b"a\nb" + b"c" * 70_000, r"line 2 has 70,001 characters"),
        ("a\nb".encode("utf-16-le"), r"prompts\.txt is no text in UTF-8"),
        (b"a\n\xff", r"prompts\.txt is no text in UTF-8 \(the byte 0xff at 2\)"),
    ],
)
def test_prompts_are_lines_whatever_the_editor_or_an_error(tmp_path, content, message):
    numbered(tmp_path, "a", "b")
    (tmp_path / "prompts.txt").write_bytes(content)
    if message is None:
        assert open_latents(tmp_path).prompts == content.decode("utf-8-sig").split()[:2] + (
            [""] if b"\n\n" in content else []
        )
    else:
        with pytest.raises(DataError, match=message):
            open_latents(tmp_path)


def test_no_library_s_advice_to_load_pickles_reaches_anybody(tmp_path):
    (tmp_path / "prompts.txt").write_text("a\n")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,4,1,1), }" + b" " * 60_000
    large = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    for content in (large, b"\x80\x04pickle", b"PK\3\4", b""):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npy cannot be read: ") as found:
            open_latents(tmp_path)
        assert "allow_pickle" not in str(found.value)
