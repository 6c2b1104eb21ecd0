"""Data: the small experiments' own, prompts, and DMD2's image and latent LMDBs."""

from disback_plugin.lab.data.dataset import (
    DataSet,
    GaussianMixture,
    SampleSource,
    digits_dataset,
    mirror_half,
    mixture_dataset,
    random_mixture,
)
from disback_plugin.lab.data.lmdb_reader import LMDBReader
from disback_plugin.lab.data.lmdb_sources import ImageLMDB, LatentLMDB
from disback_plugin.lab.data.lmdb_writer import write_image_lmdb, write_latent_lmdb
from disback_plugin.lab.data.prompts import PromptSet, load_prompts
