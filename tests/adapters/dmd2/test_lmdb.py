"""DMD2's own code reads the LMDBs that we write, and we read those that it writes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from disback_plugin.lab.data import ImageLMDB, LatentLMDB, write_image_lmdb, write_latent_lmdb

NUM = 11
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM, 3, 8, 8), dtype=np.uint8)
LABELS = [number % 4 for number in range(NUM)]
LATENTS = np.random.default_rng(1).standard_normal((NUM, 4, 2, 2)).astype(np.float16)
PROMPTS = [f"prompt {number} é" for number in range(NUM)]

READ = """
import sys, torch
from main.data.lmdb_dataset import LMDBDataset
from main.sd_image_dataset import SDImageDatasetLMDB

class Tokenizer:
    model_max_length = 16
    def __call__(self, prompts, **_):
        self.input_ids = torch.tensor([[ord(letter) for letter in prompts[0]]])
        return self

images, latents = LMDBDataset("images"), SDImageDatasetLMDB("latents", Tokenizer())
rows, pairs = [images[i] for i in range(len(images))], [latents[i] for i in range(len(latents))]
torch.save({
    "images": torch.stack([row["images"] for row in rows]),
    "labels": torch.stack([row["class_labels"] for row in rows]),
    "latents": torch.stack([pair["images"] for pair in pairs]),
    "tokens": [pair["text_input_ids_one"] for pair in pairs],
}, "seen.pt")
"""
WRITE = """
import sys, lmdb, numpy
from main.data import create_imagenet_lmdb, create_lmdb_iterative
sys.argv[1:] = ["--data_path", "source", "--lmdb_path", "images"]
create_imagenet_lmdb.main()
with lmdb.open("latents", map_size=1 << 24) as environment:
    arrays = dict(latents=numpy.load("latents.npy"), prompts=numpy.load("prompts.npy"))
    create_lmdb_iterative.store_arrays_to_lmdb(environment, arrays)
    with environment.begin(write=True) as transaction:
        transaction.put(b"latents_shape", b"11 4 2 2")
"""


def run(upstream, folder, code):
    code = f"import sys; sys.path.insert(0, {str(upstream)!r})\n" + code
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_dmd2_reads_what_we_write(upstream, tmp_path):
    write_image_lmdb(tmp_path / "images", zip(IMAGES, LABELS, strict=True))
    write_latent_lmdb(tmp_path / "latents", zip(LATENTS, PROMPTS, strict=True))
    run(upstream, tmp_path, READ)
    seen = torch.load(tmp_path / "seen.pt", weights_only=True)
    assert torch.equal(seen["images"], torch.from_numpy(IMAGES).float() / 255)
    assert torch.equal(seen["labels"], torch.tensor(LABELS)[:, None])
    assert torch.equal(seen["latents"], torch.from_numpy(LATENTS).float())
    texts = ["".join(map(chr, tokens[0].tolist())) for tokens in seen["tokens"]]
    assert texts == PROMPTS


@pytest.mark.slow
def test_we_read_what_dmd2_writes(upstream, tmp_path):
    names = [f"{number // 4:05d}/img{number:08d}.png" for number in range(NUM)]
    for name, pixels in zip(names, IMAGES, strict=True):
        file = tmp_path / "source" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(file)
    table = {"labels": [list(pair) for pair in zip(names, LABELS, strict=True)]}
    (tmp_path / "source" / "dataset.json").write_text(json.dumps(table))
    np.save(tmp_path / "latents.npy", LATENTS)
    np.save(tmp_path / "prompts.npy", np.array(PROMPTS))
    run(upstream, tmp_path, WRITE)

    images, latents = ImageLMDB(tmp_path / "images"), LatentLMDB(tmp_path / "latents")
    assert (len(images), images.data_shape, images.num_classes) == (NUM, (3, 8, 8), 4)
    index = torch.randint(NUM, (50,), generator=torch.Generator().manual_seed(0))
    samples, labels = images.batch(50, torch.Generator().manual_seed(0))
    assert torch.equal(samples, torch.from_numpy(IMAGES)[index].float() / 127.5 - 1)
    assert torch.equal(labels, torch.tensor(LABELS)[index])
    drawn, prompts = latents.batch(50, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, torch.from_numpy(LATENTS)[index].float())
    assert prompts == [PROMPTS[number] for number in index.tolist()]
