"""The model card of an export: what it is, how it is used, made, measured and licensed."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from disback_plugin.lab.export.base import Base
from disback_plugin.lab.export.exporter import Exporter
from disback_plugin.lab.export.results import made_by
from disback_plugin.lab.results.evaluations import Evaluation
from disback_plugin.lab.results.run_file import read_run_file
from disback_plugin.lab.sampling.plan import SampledStudent
from disback_plugin.lab.trainer.run_folder import read_config
from disback_plugin.pretrained.spec import split_spec

# of what weights derive from, as their projects say; the name is the hub's, or the base's folder
LICENCES: Mapping[str, str] = {
    "edm-pkl": "CC BY-NC-SA 4.0 (NVlabs/edm)",
    "cm": "MIT (openai/consistency_models)",
    "stable-diffusion-xl-base-1.0": "CreativeML Open RAIL++-M (Stability AI)",
    "stable-diffusion-v1-5": "CreativeML Open RAIL-M (Stable Diffusion)",
    "ddpm-cifar10-32": "Apache-2.0 (google/ddpm-cifar10-32)",
}
_UNKNOWN = "not known here, look it up before you publish"


def model_card(
    name: str,
    exporter: Exporter,
    student: SampledStudent,
    results: Sequence[Evaluation],
    checked: str,
) -> str:
    """README.md in the layout of the Hugging Face hub."""
    return "\n".join(
        [
            *_front(exporter),
            f"# {name}",
            "",
            f"A one-step student: {student.description}.",
            "",
            f"Exported from `{student.spec}` by disback_plugin {version('disback_plugin')}; "
            f"weights in {str(exporter.dtype).removeprefix('torch.')}. SHA-256 over its tensors: "
            f"`{student.sha256}`.",
            "",
            "## Use",
            "",
            f"```python\n{exporter.usage().rstrip()}\n```",
            "",
            checked,
            "",
            "## Training",
            "",
            *_training(student),
            "",
            "## Numbers",
            "",
            *_numbers(results),
            "",
            "## Licence",
            "",
            f"- The weights derive from {_base_name(exporter.base)}. Its licence: "
            f"{licence_of(exporter.base)}.",
            "- disback_plugin, which trained or exported them: MIT.",
            "",
        ]
    )


def licence_of(base: Base) -> str:
    """Of what the weights derive from."""
    if base.kind == "run":
        return "that of its training data"
    return LICENCES.get(base.kind) or LICENCES.get(_base_name(base), _UNKNOWN)


def _base_name(base: Base) -> str:
    if base.kind == "run":
        return "the experiment's own teacher"
    return base.location if not Path(base.location).exists() else Path(base.location).name


def _front(exporter: Exporter) -> list[str]:
    base = exporter.base
    lines = ["---", "license: other", f"license_name: {json.dumps(licence_of(base))}"]
    if base.kind == "diffusers" and not Path(base.location).exists():
        lines.append(f"base_model: {base.location}")
    if base.kind in ("diffusers", "cm"):
        lines.append("library_name: diffusers")
    return [*lines, "tags: [disback, one-step, diffusion-distillation]", "---"]


def _training(student: SampledStudent) -> list[str]:
    asked = f"sigma {student.sigma:.6g}"
    if student.timestep is not None:
        asked += f", timestep {student.timestep}"
    lines = [f"Asked once, at {asked}; input noise: {student.noise}."]
    kind, location = split_spec(student.spec)
    if kind != "run":
        return [*lines, "Its training was another program's: nothing more is known here."]
    folder = Path(location).absolute()
    run, config = read_run_file(folder), read_config(folder.parents[1])
    lines += [f"Arm `{run.arm}`, seed {run.seed}, {run.num_steps:,} steps; all settings:", ""]
    return [*lines, f"```yaml\n{config.to_yaml().rstrip()}\n```"]


def _numbers(results: Sequence[Evaluation]) -> list[str]:
    if not results:
        return ["None were given; `disback eval` makes them."]
    rows: list[list[Any]] = [
        [_protocol(result), name, value, result.num_images]
        for result in results
        for name, value in result.numbers.items()
    ]
    lines = ["| protocol | number | value | images |", "|---|---|---|---|"]
    return [*lines, *(f"| {p} | {name} | {value:.4g} | {num:,} |" for p, name, value, num in rows)]


def _protocol(result: Evaluation) -> str:
    said = " (stand-ins)" if result.smoke else ""
    return result.protocol + said + ("" if made_by(result) else " (images that name no student)")
