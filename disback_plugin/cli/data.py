"""`disback data`: make LMDB data sets in DMD2's layout, and look at them."""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command, positive
from disback_plugin.errors import DataError, count
from disback_plugin.reading import cut

EXAMPLES = """  disback data lmdb imagenet-64x64.zip imagenet_lmdb
  disback data lmdb photos/ photos_lmdb --resolution 64 --labels none
  disback data lmdb latents/ latents_lmdb
  disback data show imagenet_lmdb
"""
LMDB = "write images or latents into an LMDB in the layout of DMD2"
LMDB_DETAILS = """SOURCE is one of
  a folder of images, or a .zip of one; class sub-folders, or a dataset.json, give the labels
  a .zip of NVlabs/edm's dataset_tool
  an .npz: images (uint8) and labels, or jpeg (bytes end to end), offsets and labels
  a folder of .npy or .safetensors ("latents") files with prompts.txt, one prompt a line

Images become RGB: transparent pixels are laid over white, EXIF orientation is applied, colour
profiles are not, animations and grey images of 16 bits are refused. Files come in the order of
their names, numbers in them counting as such; links are followed; names that begin with a dot are
left out. What was decided is printed before anything is written, with three samples. OUT
appears when it is complete; an interrupted command leaves nothing.

"""
LMDB_EXAMPLES = """  disback data lmdb imagenet-64x64.zip imagenet_lmdb
  disback data lmdb photos/ photos_lmdb --resolution 64 --labels photos.json
  disback data lmdb latents/ latents_lmdb --force
"""
SHOW = "print count, shapes, dtypes, classes, prompts; of an LMDB or of a file of prompts"
SHOW_EXAMPLES = """  disback data show imagenet_lmdb
  disback data show prompts.csv
"""
NUM_PROMPTS = 3
PROMPT_FILES = (".txt", ".csv", ".jsonl", ".parquet")


def add_parser(commands: Any) -> None:
    """Register the command with its actions."""
    parser = add_command(commands, "data", "make and look at data sets for training", EXAMPLES)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    make = add_command(actions, "lmdb", LMDB, LMDB_EXAMPLES, LMDB_DETAILS)
    make.add_argument("source", type=Path, metavar="SOURCE", help="see below")
    make.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    make.add_argument(
        "--labels",
        default="auto",
        metavar="auto|none|FILE",
        help='auto: from the source; none: without; FILE: JSON {"labels": [[NAME, NUMBER], ...]}',
    )
    make.add_argument(
        "--resolution",
        type=positive,
        metavar="N",
        help="crop the centre square and resize to N x N, Lanczos (default: as they are)",
    )
    make.add_argument(
        "--limit",
        type=positive,
        metavar="N",
        help="so many, evenly spread over the source (default: all)",
    )
    make.add_argument(
        "--map-size",
        type=positive,
        default=1 << 30,
        metavar="BYTES",
        help="address space to begin with; it grows as needed (default: %(default)s, 1 GiB)",
    )
    make.add_argument("--force", action="store_true", help="replace an LMDB at OUT")
    make.set_defaults(command=write)
    look = add_command(actions, "show", SHOW, SHOW_EXAMPLES)
    look.add_argument(
        "folder", type=Path, metavar="FOLDER", help="an LMDB folder, or a file of prompts"
    )
    look.set_defaults(command=show)


def write(args: argparse.Namespace) -> int:
    """Write the LMDB and show it."""
    from disback_plugin.lab.data import latents
    from disback_plugin.lab.data.images import open_images
    from disback_plugin.lab.data.lmdb_writer import (
        refuse_existing,
        write_image_lmdb,
        write_latent_lmdb,
    )

    refuse_existing(args.out, args.force)
    options = {"replace": args.force, "map_size": args.map_size}
    if latents.is_latents(args.source):
        _refuse_image_options(args)
        found = latents.open_latents(args.source)
        num = min(args.limit or len(found), len(found))
        _tell(found.decided, found.sample, len(found))
        with _bar(found.rows(num), num) as rows:
            write_latent_lmdb(args.out, rows, **options)
    else:
        images = open_images(args.source, args.labels)
        images = images.spread(args.limit or len(images))
        _tell(images.decided, images.sample, len(images))
        with _bar(images.rows(args.resolution), len(images)) as rows:
            write_image_lmdb(args.out, rows, **options)
        for remark in images.remarks():
            print(remark, file=sys.stderr)
    return show(argparse.Namespace(folder=args.out))


def _refuse_image_options(args: argparse.Namespace) -> None:
    if args.labels != "auto" or args.resolution is not None:
        raise DataError(
            f"{args.source} holds latents: leave --labels and --resolution, which are for images, "
            "out"
        )


def _tell(decided: Iterable[str], sample: Callable[[int], str], num: int) -> None:
    """What was decided, and a sample from the start, the middle and the end."""
    for text in decided:
        print(cut(text, 1000), file=sys.stderr)
    for number in sorted({0, num // 2, num - 1}):
        print(f"  {sample(number)}", file=sys.stderr)


def _bar(rows: Iterable[Any], num: int) -> Any:
    """The rows, counted on the screen; `with` ends its line before an error gets one."""
    from disback_plugin.lab.data.optional import needed

    return needed("tqdm", "a progress bar").tqdm(rows, total=num, unit="sample")


def show(args: argparse.Namespace) -> int:
    """Print what is in an LMDB, or which prompts are in a file."""
    from disback_plugin.lab.data.lmdb_reader import DATA_FILE, LMDBReader
    from disback_plugin.lab.data.lmdb_sources import ImageLMDB, LatentLMDB

    if args.folder.suffix.lower() in PROMPT_FILES and not args.folder.is_dir():
        return _show_prompts(args.folder)
    reader = LMDBReader(args.folder)
    megabytes = (args.folder / DATA_FILE).stat().st_size / 1e6
    if reader.shape("latents") is not None:
        latents = LatentLMDB(args.folder)
        num, kind = count(len(latents), "latent"), "float16 with prompts"
        print(f"{args.folder}: {num} {latents.data_shape} {kind}, {megabytes:.1f} MB")
        for prompt in latents.prompts(range(min(NUM_PROMPTS, len(latents)))):
            print(f"  {cut(prompt)}")
        return 0
    images = ImageLMDB(args.folder)
    num = count(len(images), "image")
    print(f"{args.folder}: {num} {images.data_shape} uint8, {megabytes:.1f} MB")
    if images.labels is None:
        print("  no labels")
    else:
        counts = images.labels.bincount()
        print(
            f"  labels int64, {count(images.num_classes, 'class', 'classes')} with "
            f"{int(counts.min())} to {int(counts.max())} images each"
        )
    return 0


def _show_prompts(file: Path) -> int:
    from disback_plugin.lab.data import load_prompts

    prompts = load_prompts(file)
    blank = f"; {count(prompts.num_dropped, 'blank one')} left out" if prompts.num_dropped else ""
    print(f"{file}: {count(len(prompts), 'prompt')}{blank}")
    for number in sorted({0, len(prompts) // 2, len(prompts) - 1}):
        print(f"  {number}: {cut(prompts[number].replace(chr(10), ' '), 200)}")
    return 0
