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


def test_what_was_decided_is_told_with_samples_from_start_middle_and_end(tmp_path, capsys):
    for name in ("1/a", "2/b", "10/c"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        Image.new("RGBA", (5, 5), (1, 2, 3, 0)).save(tmp_path / "in" / f"{name}.png")
    assert main(["data", "lmdb", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err.replace(str(tmp_path), "").splitlines()
    assert told[0] == "/in: 3 images (3 .png)"
    assert told[3:6] == [
        "  /in/1/a.png -> label 0 (1)",
        "  /in/2/b.png -> label 1 (2)",
        "  /in/10/c.png -> label 2 (10)",
    ]
    assert told[-1] == "3 images with transparency, laid over white"
    assert ImageLMDB(tmp_path / "out").load().samples.min() == 1


def test_latents_are_told_with_the_prompts_that_they_get(tmp_path, capsys):
    for number in (0, 2, 10):
        np.save(tmp_path / f"l_{number}.npy", np.full((1, 4, 2, 2), number, np.float16))
    (tmp_path / "prompts.txt").write_bytes(b"\xef\xbb\xbfzero\r\n\r\nten\x1b[2J\r\n")
    assert main(["data", "lmdb", str(tmp_path), str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[1:6] == [
        "order: by the numbers in the names, so l_2.npy before l_10.npy; 8 numbers missing, "
        "first 1",
        "prompts: line by line from prompts.txt, 1 of them blank",
        "  l_0.npy, row 0 -> zero",
        "  l_2.npy, row 0 -> ",
        "  l_10.npy, row 0 -> ten\\x1b[2J",
    ]
    assert LatentLMDB(tmp_path / "out").prompts(range(3)) == ["zero", "", "ten\x1b[2J"]


def test_prompts_are_shown_with_their_count_and_what_was_left_out(tmp_path, capsys):
    (tmp_path / "p.txt").write_text("a\n\nb\nc\n")
    assert main(["data", "show", str(tmp_path / "p.txt")]) == 0
    shown = capsys.readouterr().out.replace(str(tmp_path), "").splitlines()
    assert shown == ["/p.txt: 3 prompts; 1 blank one left out", "  0: a", "  1: b", "  2: c"]


def test_a_path_may_begin_with_the_home_folder_and_is_no_address(
    source, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["data", "lmdb", "~/images.npz", "~/out"]) == 0
    assert len(ImageLMDB(tmp_path / "out")) == 12
    assert main(["data", "lmdb", "https://a.org/x.zip", "~/other"]) == 2
    assert "https://a.org/x.zip is an address, no file here: download" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(source, tmp_path, capsys):
    for out, more in (("images.npz/out", []), ("x" * 300, []), ("out", ["--map-size", "9" * 30])):
        assert main(["data", "lmdb", source, str(tmp_path / out), *more]) == 2
        assert re.search(r"^disback: error: .* cannot be written", capsys.readouterr().err, re.M)
    assert [file.name for file in tmp_path.iterdir()] == ["images.npz"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "before"),
    [
        (signal.SIGINT, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_IGN),
        (signal.SIGHUP, signal.SIG_DFL),
    ],
)
def test_a_stop_leaves_nothing_half_with_sigint_ignored_too(tmp_path, sent, before):
    """Ignored, as it is for what nohup, or & in a script, starts; then SIGTERM is what is left."""
    many = torch.zeros(60_000, 5, 5, 3, dtype=torch.uint8).numpy()
    np.savez(tmp_path / "many.npz", images=many)
    out = tmp_path / "made" / "out"
    arguments = ["lmdb", str(tmp_path / "many.npz"), str(out), "--resolution", "64"]

    def as_started() -> None:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-m", "disback_plugin", "data", *arguments],
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=as_started,
    )
    try:
        while not list(tmp_path.glob("made/.tmp-*/data.mdb")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(sent)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert error.endswith(b"sample/s]\ndisback: stopped\n")  # the bar is closed before
    assert list(tmp_path.glob("made/*")) == list(tmp_path.glob("made/.*")) == []
