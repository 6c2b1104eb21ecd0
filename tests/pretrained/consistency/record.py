"""Record what OpenAI's code computes: python -m tests.pretrained.consistency.record

Needs a checkout of github.com/openai/consistency_models (e32b69e) in third_party/ or in the
folder DISBACK_UPSTREAMS. Weights and inputs are drawn by seed, so only outputs are stored, and of
them every third number.
"""

import json
import sys
from pathlib import Path

from torch import Tensor

from disback_plugin.lab.smoke.openai import fill, shapes
from tests.pretrained.consistency import upstream
from tests.pretrained.consistency.checkpoints import CASES, inputs

FOLDER = Path(__file__).parent / "recorded"
STRIDE = 3


def sampled(x: Tensor) -> Tensor:
    """Every third number, which meets every channel, row and column."""
    return x.flatten()[::STRIDE]


def main() -> int:
    """Write one file a case."""
    if upstream.CHECKOUT is None:
        print("no checkout of consistency_models", file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    with upstream.imported() as modules:
        for name, config in CASES.items():
            found = upstream.outputs(modules, config, fill(shapes(config)), inputs(config))
            # nine digits hold a float32 exactly
            rows = {key: [float(f"{v:.9g}") for v in sampled(x)] for key, x in found.items()}
            (FOLDER / f"{name}.json").write_text(json.dumps(rows) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
