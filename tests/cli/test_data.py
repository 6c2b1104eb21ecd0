"""`disback data`: one command makes a data set and shows it; errors name what to do."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from disback_plugin.cli import main
from disback_plugin.lab.data import ImageLMDB, LatentLMDB

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 5, 5, 3), dtype=np.uint8)


@pytest.fixture
def source(tmp_path):
    np.savez(tmp_path / "images.npz", images=PIXELS, labels=np.arange(12) % 3)
    return str(tmp_path / "images.npz")


@pytest.fixture
def latents(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    np.save(folder / "a.npy", np.ones((4, 4, 2, 2), np.float16))
    (folder / "prompts.txt").write_text("one\ntwo\nthree\nfour\n")
    return str(folder)


def test_lmdb_writes_images_and_show_tells_what_is_in_them(source, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["data", "lmdb", source, out]) == 0
    written = capsys.readouterr()
    assert "12/12" in written.err  # the bar
    assert main(["data", "show", out]) == 0
    shown = capsys.readouterr().out
    assert shown == written.out
    assert f"{out}: 12 images (3, 5, 5) uint8, 0.0 MB" in shown
    assert "labels int64, 3 classes with 4 to 4 images each" in shown


def test_resolution_limit_and_labels_are_obeyed(source, tmp_path, capsys):
    out = str(tmp_path / "out")
    arguments = ["--resolution", "8", "--limit", "5", "--labels", "none", "--map-size", "4096"]
    assert main(["data", "lmdb", source, out, *arguments]) == 0
    data = ImageLMDB(out)
    assert (len(data), data.data_shape, data.num_classes) == (5, (3, 8, 8), 0)
    assert "no labels" in capsys.readouterr().out


def test_latents_are_written_with_their_prompts_and_the_first_are_shown(latents, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["data", "lmdb", latents, out]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"{out}: 4 latents (4, 2, 2) float16 with prompts")
    assert shown[1:] == ["  one", "  two", "  three"]
    assert LatentLMDB(out).prompts(range(4)) == ["one", "two", "three", "four"]


def test_an_existing_data_set_is_replaced_by_force_only(source, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["data", "lmdb", source, out, "--limit", "2"]) == 0
    assert main(["data", "lmdb", source, out]) == 2
    assert "out exists; choose another name, or replace it (--force)" in capsys.readouterr().err
    assert len(ImageLMDB(out)) == 2
    assert main(["data", "lmdb", source, out, "--force"]) == 0
    assert len(ImageLMDB(out)) == 12


def test_mistakes_are_explained_and_leave_nothing(source, latents, tmp_path, capsys):
    out = tmp_path / "out"
    for arguments, message in (
        ([latents, "--resolution", "8"], "holds latents: leave --labels and --resolution"),
        ([str(tmp_path / "nowhere")], "nowhere is no folder, .zip or .npz of images"),
        ([source, "--labels", str(tmp_path / "t.json")], "keeps its labels itself"),
    ):
        assert main(["data", "lmdb", arguments[0], str(out), *arguments[1:]]) == 2
        assert message in capsys.readouterr().err
    assert main(["data", "show", str(tmp_path)]) == 2
    assert "is no LMDB folder: it has no data.mdb" in capsys.readouterr().err
    assert not out.exists()


def test_a_labels_file_that_is_not_there_is_named_with_what_to_give(tmp_path, capsys):
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png")
    for labels, found in (("foo.json", "foo.json does not exist"), ("", "is a folder")):
        arguments = ["lmdb", str(tmp_path), str(tmp_path / "out"), "--labels"]
        assert main(["data", *arguments, str(tmp_path / labels)]) == 2
        error = capsys.readouterr().err
        assert re.search(
            rf"^disback: error: the labels file .*{found}: give a JSON file, auto", error
        )
        assert "Errno" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_half(tmp_path):
    many = torch.zeros(60_000, 5, 5, 3, dtype=torch.uint8).numpy()
    np.savez(tmp_path / "many.npz", images=many)
    out = tmp_path / "made" / "out"
    arguments = ["lmdb", str(tmp_path / "many.npz"), str(out), "--resolution", "64"]
    process = subprocess.Popen(
        [sys.executable, "-m", "disback_plugin", "data", *arguments],
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        while not list(tmp_path.glob("made/.tmp-*/data.mdb")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert error.endswith(b"sample/s]\ndisback: stopped\n")  # the bar is closed before
    assert list(tmp_path.glob("made/*")) == list(tmp_path.glob("made/.*")) == []
