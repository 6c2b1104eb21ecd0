"""Prompts come whole, in order and without blanks from each format, and no file runs anything."""

import os
import pickle
import random
import resource
from pathlib import Path

import pytest
import torch

from disback_plugin.errors import DataError, DisBackError
from disback_plugin.lab.data import PromptSet, load_prompts

PROMPTS = ["a red dog", "café, 東京 🗼", "two  spaces\u2028and a line separator"]


def text_file(folder: Path, content: bytes) -> Path:
    file = folder / "prompts.txt"
    file.write_bytes(content)
    return file


def pickle_file(folder: Path, content: object) -> Path:
    file = folder / "captions.pkl"
    file.write_bytes(pickle.dumps(content))
    return file


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_line_is_a_prompt_whatever_the_editor_made_of_the_file(tmp_path, end, mark):
    text = mark + end.join([PROMPTS[0], "", PROMPTS[1], "  \t", PROMPTS[2]])
    prompts = load_prompts(text_file(tmp_path, text.encode()))
    assert list(prompts) == PROMPTS
    assert (len(prompts), prompts.num_dropped) == (3, 2)
    assert prompts.name == str(tmp_path / "prompts.txt")


def test_prompts_are_indexed_as_a_list_is():
    prompts = PromptSet("three", PROMPTS)
    assert (prompts[-1], prompts[1:], prompts[::-2]) == (PROMPTS[2], PROMPTS[1:], PROMPTS[::-2])
    assert PROMPTS[1] in prompts
    with pytest.raises(IndexError):
        prompts[3]


def test_a_batch_depends_on_the_generator_alone_and_gives_the_indices():
    prompts = PromptSet("many", map(str, range(1000)))
    state = torch.get_rng_state()
    index, drawn = prompts.batch(64, torch.Generator().manual_seed(0))
    assert drawn == [str(number) for number in index.tolist()]
    assert torch.equal(index, prompts.batch(64, torch.Generator().manual_seed(0))[0])
    assert not torch.equal(index, prompts.batch(64, torch.Generator().manual_seed(1))[0])
    assert len(set(drawn)) > 50
    assert torch.equal(torch.get_rng_state(), state)


def test_other_encodings_are_refused_with_the_line(tmp_path):
    with pytest.raises(DataError, match=r"prompts\.txt, line 3 is not UTF-8 \(byte 0xe9\)"):
        load_prompts(text_file(tmp_path, "ok\n\ncafé\n".encode("latin-1")))


def test_a_file_of_blank_lines_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no prompts \(2 blank ones\)"):
        load_prompts(text_file(tmp_path, b"\n \n"))


def test_unknown_files_and_options_that_do_not_apply_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no prompts at .*nowhere; known formats: \.txt"):
        load_prompts(tmp_path / "nowhere")
    (tmp_path / "prompts.yaml").write_text("- a")
    with pytest.raises(DataError, match=r"cannot be read from '\.yaml'"):
        load_prompts(tmp_path / "prompts.yaml")
    with pytest.raises(DataError, match="has no columns: leave column='text' out"):
        load_prompts(text_file(tmp_path, b"a"), column="text")
    with pytest.raises(DataError, match="without splits: leave split='train' out"):
        load_prompts(text_file(tmp_path, b"a"), split="train")


def test_a_pickle_is_refused_unless_trusted_and_then_read_as_a_list(tmp_path):
    file = pickle_file(tmp_path, [PROMPTS[0], None, *PROMPTS[1:]])
    with pytest.raises(DataError, match=r"is a pickle.*--trust-pickle"):
        load_prompts(file)
    prompts = load_prompts(file, trust_pickle=True)
    assert (list(prompts), prompts.num_dropped) == (PROMPTS, 1)


class Poison:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: ["a", x], lambda x: [{"a": ("b", [x])}]])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, rf"{os.name}\.system"), (exec, r"(__builtin__|builtins)\.exec")],
)
def test_a_trusted_pickle_still_runs_nothing(tmp_path, protocol, wrap, function, name):
    witness = tmp_path / "witness"
    code = f"touch {witness}" if function is os.system else f"open({str(witness)!r}, 'w')"
    file = tmp_path / "captions.pkl"
    file.write_bytes(pickle.dumps(wrap(Poison(function, code)), protocol))
    with pytest.raises(DataError, match=rf"captions\.pkl is refused: it asks for {name}"):
        load_prompts(file, trust_pickle=True)
    assert not witness.exists()


def test_a_pickle_of_anything_but_strings_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds a dict, not a list of strings"):
        load_prompts(pickle_file(tmp_path, {"a": 1}), trust_pickle=True)
    with pytest.raises(DataError, match="entry 1 is a int, not a string"):
        load_prompts(pickle_file(tmp_path, ["a", 1]), trust_pickle=True)
    with pytest.raises(DataError, match=r"it asks for .*datetime\.date"):
        import datetime

        load_prompts(pickle_file(tmp_path, ["a", datetime.date(2024, 1, 1)]), trust_pickle=True)
    with pytest.raises(DataError, match="prompt 1 is no valid text"):
        load_prompts(pickle_file(tmp_path, ["a", "\ud800"]), trust_pickle=True)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x05]r\xff\xff\xff\x7f0",  # number 2**31 - 1 of what was seen: an array of that size
        b"\x80\x05\x96\x00\x00\x00\x00\x20\x00\x00\x00",  # 137 GB of zeros to be filled
        b"\x80\x05\x8d\x00\x00\x00\x00\x00\x00\x10\x00",  # a text of 2**52 bytes
    ],
)
def test_a_pickle_of_some_bytes_takes_little_memory(tmp_path, content):
    (tmp_path / "captions.pkl").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="no readable pickle"):
        load_prompts(tmp_path / "captions.pkl", trust_pickle=True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_damaged_pickles_give_prompts_or_an_error_of_ours(tmp_path):
    whole, random_ = pickle.dumps(PROMPTS), random.Random(0)
    file, refused = tmp_path / "captions.pkl", 0
    for _ in range(300):
        damaged = bytearray(whole[: random_.randint(1, len(whole))])
        damaged[random_.randrange(len(damaged))] = random_.choice(b"0123.(]}cRbi\x8c\x93\x95\xff")
        file.write_bytes(damaged)
        try:
            load_prompts(file, trust_pickle=True)
        except DataError:
            refused += 1
    assert refused > 250


def test_what_is_no_prompt_is_refused_without_reading_it_whole(tmp_path):
    for content, message in (
        (b"a\n" + b"b" * 10**6, r"line 2 is too long for a prompt"),
        (b"a\n" + b"b" * 70_000, r"prompt 1 is no valid text \(70,000 characters\)"),
        ("a\nb".encode("utf-16-le"), r"prompt 0 is no valid text"),
    ):
        with pytest.raises(DataError, match=message) as found:
            load_prompts(text_file(tmp_path, content))
        assert len(str(found.value)) < 1000


def test_pipes_devices_and_addresses_are_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a.txt")
    (tmp_path / "b.csv").symlink_to("/dev/zero")
    for spec, message in (
        (tmp_path / "a.txt", "is a pipe, not a file"),
        (tmp_path / "b.csv", "is a device, not a file"),
    ):
        with pytest.raises(DataError, match=message):
            load_prompts(spec)
    with pytest.raises(DisBackError, match="https://a.org/p.txt is an address"):
        load_prompts("https://a.org/p.txt")
    monkeypatch.setenv("HOME", str(tmp_path))
    text_file(tmp_path, b"a")
    assert list(load_prompts("~/prompts.txt")) == ["a"]
