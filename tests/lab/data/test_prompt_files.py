"""Prompts in tables: the right column and split are found, or the error names what there is."""

import json
import sys

import pytest

from disback_plugin.errors import DataError
from disback_plugin.lab.data import load_prompts


@pytest.fixture
def parquet(tmp_path):
    """Writes columns into a parquet file."""
    arrow = pytest.importorskip("pyarrow", reason="needs pip install 'disback_plugin[data]'")
    from pyarrow import parquet as writer

    def write(**columns):
        file = tmp_path / "table.parquet"
        writer.write_table(arrow.table(columns), file, row_group_size=2)
        return file

    return write


@pytest.fixture
def hugging_face(tmp_path, monkeypatch):
    """The library, with its cache in a temp folder and no connection."""
    library = pytest.importorskip("datasets", reason="needs pip install 'disback_plugin[data]'")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    library.disable_progress_bars()
    return library


@pytest.mark.parametrize("name", ["prompt", "caption", "TEXT", "Caption", "anything"])
def test_the_column_of_prompts_is_found_among_others(parquet, name):
    file = parquet(similarity=[0.1, 0.2, 0.3, 0.4], **{name: ["a", None, "b", "c"]})
    prompts = load_prompts(file)
    assert (list(prompts), prompts.num_dropped) == (["a", "b", "c"], 1)


def test_a_known_name_wins_over_other_columns_of_text(parquet):
    assert list(load_prompts(parquet(URL=["x", "y"], TEXT=["a", "b"]))) == ["a", "b"]


def test_two_columns_that_could_be_prompts_must_be_chosen_from(parquet):
    file = parquet(prompt=["a"], caption=["b"], width=[1])
    with pytest.raises(DataError, match="could be in any of prompt, caption; choose a column"):
        load_prompts(file)
    assert list(load_prompts(file, column="caption")) == ["b"]
    with pytest.raises(DataError, match="column 'width' is int64; columns of text: prompt, capt"):
        load_prompts(file, column="width")
    with pytest.raises(DataError, match="column 'text' is missing"):
        load_prompts(file, column="text")


def test_a_table_without_text_is_refused(parquet):
    with pytest.raises(DataError, match="could be in none of width, height"):
        load_prompts(parquet(width=[1], height=[2]))


def test_a_damaged_table_is_refused_by_name(parquet):
    file = parquet(prompt=["a"])
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"table\.parquet cannot be read"):
        load_prompts(file)


def test_json_lines_and_csv_are_read_the_same_way(tmp_path):
    pytest.importorskip("pyarrow", reason="needs pip install 'disback_plugin[data]'")
    rows = [{"id": 1, "prompt": 'a, "b"\nc'}, {"id": 2, "prompt": "d"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "p.csv").write_text('id,prompt\n1,"a, ""b""\nc"\n2,d\n')
    assert list(load_prompts(tmp_path / "p.jsonl")) == ['a, "b"\nc', "d"]
    assert list(load_prompts(tmp_path / "p.csv")) == ['a, "b"\nc', "d"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", b"a red dog\na blue cat\n", "its first line, .'a red dog'.*, should name"),
        ("p.csv", b"prompt,prompt\na,b\n", "could be in any of prompt, prompt; choose a column"),
        ("p.csv", b"prompt\ncaf\xe9\n", r"could be in none of prompt|p\.csv cannot be read"),
        ("p.csv", b"", r"p\.csv cannot be read"),
        ("p.jsonl", b'{"prompt": ', r"p\.jsonl cannot be read"),
        ("p.jsonl", b"[" * 10_000, r"p\.jsonl cannot be read"),
        ("p.parquet", b"PAR1", r"p\.parquet cannot be read"),
    ],
)
def test_tables_that_leave_a_guess_or_are_damaged_are_refused(tmp_path, name, content, message):
    pytest.importorskip("pyarrow", reason="needs pip install 'disback_plugin[data]'")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_prompts(tmp_path / name)


def test_a_mark_and_line_ends_of_windows_are_no_part_of_a_table(tmp_path):
    pytest.importorskip("pyarrow", reason="needs pip install 'disback_plugin[data]'")
    (tmp_path / "p.csv").write_bytes(b"\xef\xbb\xbfprompt,n\r\na,1\r\n\r\nb,2\r\n")
    assert list(load_prompts(tmp_path / "p.csv")) == ["a", "b"]


def test_a_saved_hugging_face_data_set_is_read_in_its_order(hugging_face, tmp_path):
    whole = hugging_face.Dataset.from_dict({"prompt": ["a", "b", "c"], "n": [1, 2, 3]})
    whole.select([2, 0]).save_to_disk(tmp_path / "chosen")
    assert list(load_prompts(tmp_path / "chosen")) == ["c", "a"]
    with pytest.raises(DataError, match="has no splits: leave split='train' out"):
        load_prompts(tmp_path / "chosen", split="train")


def test_a_split_is_chosen_or_asked_for(hugging_face, tmp_path):
    def saved(**splits):
        folder = tmp_path / "_".join(splits)
        parts = {
            name: hugging_face.Dataset.from_dict({"text": text}) for name, text in splits.items()
        }
        hugging_face.DatasetDict(parts).save_to_disk(folder)
        return folder

    both = saved(train=["a"], test=["b"])
    assert list(load_prompts(both)) == ["a"]
    assert list(load_prompts(both, split="test")) == ["b"]
    assert list(load_prompts(saved(validation=["c"]))) == ["c"]
    with pytest.raises(DataError, match="has no split 'train'; it has one, two"):
        load_prompts(saved(one=["a"], two=["b"]))


def test_a_folder_of_something_else_is_refused_by_name(hugging_face, tmp_path):
    with pytest.raises(DataError, match=rf"{tmp_path} cannot be read"):
        load_prompts(tmp_path)


def test_what_the_hub_would_give_is_read_through_the_library(hugging_face, tmp_path):
    folder = tmp_path / "owner" / "name"  # the library takes a local folder for a name on the hub
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"caption": "a"}\n{"caption": "b"}\n')
    (folder / "test.jsonl").write_text('{"caption": "c"}\n')
    assert list(load_prompts(f"hf:{folder}")) == ["a", "b"]
    assert list(load_prompts(f"hf:{folder}", split="test")) == ["c"]
    with pytest.raises(DataError, match=r"hf:nobody/nothing cannot be read"):
        load_prompts("hf:nobody/nothing")


def test_without_the_library_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'disback_plugin\[data\]'"):
        load_prompts("hf:owner/name")
