"""A small host of our own in FastGen's place: `train.py --config FILE.py - a.b=1 +c.d={e: f}`."""

import argparse
import os
import runpy
from types import SimpleNamespace
from typing import Any

import yaml
from fastgen.methods import DMD2Model
from fastgen.trainer import Trainer


def override(config: Any, option: str) -> None:
    """Set one value by its dotted name."""
    name, _, value = option.removeprefix("+").partition("=")
    *parents, last = name.split(".")
    for parent in parents:
        config = getattr(config, parent) if isinstance(config, SimpleNamespace) else config[parent]
    (vars(config) if isinstance(config, SimpleNamespace) else config)[last] = yaml.safe_load(value)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    parser.add_argument("--log_level")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    config = runpy.run_path(args.config)["create_config"]()
    config.log_config.save_path = os.environ["FASTGEN_OUTPUT_ROOT"]
    for option in args.opts[1:]:
        override(config, option)
    Trainer(config).run(DMD2Model(config.model))


if __name__ == "__main__":
    main()
