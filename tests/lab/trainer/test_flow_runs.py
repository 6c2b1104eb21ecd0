"""SD3, Flux, Qwen-Image and Wan as teachers of prompts: recorded, walked, sampled, exported."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from disback_plugin.cli import main
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.files import write_text
from disback_plugin.lab.data import PromptSet
from disback_plugin.lab.export import export
from disback_plugin.lab.sampling import Asked, Seeds, make_sampler, open_student
from disback_plugin.lab.sampling.student import STATEMENT
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.run_folder import CONFIG
from disback_plugin.lab.trainer.teacher_files import fingerprint
from disback_plugin.path import DegradationPath
from disback_plugin.pretrained import load_text_encoder
from disback_plugin.pretrained.bare import bare_module
from disback_plugin.sealed import read_sealed, write_sealed
from tests.lab.trainer.checkpoint_cases import CASES, PROMPTS, TEXT, settings
from tests.lab.trainer.conftest import lines, resumed, same_bits, tensors
from tests.pretrained.diffusers.flow_pipelines import save_flux, save_qwen_image, save_sd3, save_wan
from tests.tiers import sample_of

SAVED = {"sd3": save_sd3, "flux": save_flux, "qwen": save_qwen_image, "wan": save_wan}
SETTINGS: dict[str, dict[str, Any]] = {
    "sd3": {"shift": 3.0},
    "flux": {"guidance_embeds": True, "use_dynamic_shifting": True},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "sd3": {"guidance_scale": 3.0},
    "flux": {"sample_size": [8, 8], "embedded_guidance": 2.5, "max_sequence_length": 32},
    "qwen": {"sample_size": [8, 8], "guidance_scale": 2.0, "text_dtype": "bf16"},
    "wan": {"sample_size": [1, 8, 8], "guidance_scale": 2.0},
}
# one base with LoRAs, as on one GPU
LORA = (
    "lora={rank: 2, alpha: 1.0, targets: [to_q, to_k, to_v]}",
    "gradient_checkpointing=true",
    "problem.encode_ahead=true",
)
MORE = {"sd3": (), "flux": LORA, "qwen": (), "wan": LORA}
CAT = "a photo of a cat"  # as the model card asks


def configured(name: str, root: Path) -> Any:
    """The settings of an experiment, whose teacher lies in root/name."""
    SAVED[name](root / name, text=True, **SETTINGS.get(name, {}))
    (root / "prompts.txt").write_text("\n".join(PROMPTS))
    teacher = {"checkpoint": f"diffusers:{{}}/{name}", "options": OPTIONS[name]}
    CASES[name] = TEXT, teacher, {"timestep": 999, "noise": "unit"}
    try:
        return settings(name, root, "distill.student_lr=1e-2", *MORE[name])
    finally:
        del CASES[name]


def done(name: str, root: Path) -> tuple[Path, Any]:
    """A finished experiment's folder, and its settings."""
    config = configured(name, root)
    run_experiment(config, root / "out", ["disback"])
    return root / "out", config


@pytest.mark.slow
@pytest.mark.parametrize("name", sample_of("sd3", "flux", rest=["qwen", "wan"]))
def test_a_flow_is_distilled_and_its_own_pipeline_makes_the_image_of_disback_sample(
    name: str, tmp_path: Path
) -> None:
    out, config = done(name, tmp_path)
    run = out / "runs" / "disback-seed0"
    told = lines(run / "metrics.jsonl")
    switches = [(line["step"], line["node"]) for line in told if line["kind"] == "switch"]
    assert switches == [(3, 2), (4, 1), (5, 0)]
    path = DegradationPath.open(run / "path")
    assert all(0 < node.distance < 1 for node in path.nodes)
    assert all(".lora_" in key for key in path.read(1)) == (MORE[name] == LORA)
    if name == "flux":
        again = resumed(config, out, tmp_path / "again")
        assert same_bits(tensors(again), tensors(run))

    (tmp_path / "cat.txt").write_text(CAT)
    spec, npz, exported = f"run:{run}", tmp_path / "s.npz", tmp_path / "exported"
    sample = ["sample", spec, "--seeds", "0-1", "--grid", "0", "--batch", "1"]
    assert main([*sample, "--prompts", str(tmp_path / "cat.txt"), "--out", str(npz)]) == 0
    expected = np.load(npz)["arr_0"].astype(int)
    assert expected.shape == (2, 64, 64, 3)
    assert expected.std(axis=(1, 2)).min() > 1
    assert np.abs(expected[0] - expected[1]).max() > 10
    assert main(["export", spec, "--as", "diffusers", "--out", str(exported)]) == 0
    again_student = open_student(f"diffusers:{exported}", {})
    assert again_student.asked == Asked(timestep=999, noise="unit")
    own_student = open_student(spec, {})
    assert fingerprint(bare_module(again_student.denoiser)) == fingerprint(
        bare_module(own_student.denoiser)
    )
    sample[1], npz = f"diffusers:{exported}", tmp_path / "again.npz"
    assert main([*sample, "--prompts", str(tmp_path / "cat.txt"), "--out", str(npz)]) == 0
    found = np.load(npz)["arr_0"].astype(int)
    assert np.abs(found - expected).max() <= 1
    if MORE[name] == LORA:
        adds_what_was_trained(spec, exported, tmp_path / name, tmp_path / "lora")
    for seed in (0, 1):
        apart = np.abs(by_the_card(exported, seed) - expected[seed])
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.01


def adds_what_was_trained(spec: str, whole: Path, base: Path, out: Path) -> None:
    """`--as lora` holds the student's difference to its base, for the pipeline's own loader."""
    assert main(["export", spec, "--as", "lora", "--out", str(out)]) == 0
    held = {file.name for file in out.iterdir()}
    assert held == {"README.md", "student.json", "pytorch_lora_weights.safetensors"}
    student = DiffusionPipeline.from_pretrained(whole).transformer
    pipe = DiffusionPipeline.from_pretrained(base)
    plain = {name: value.clone() for name, value in pipe.transformer.named_parameters()}
    pipe.load_lora_weights(out)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    changed = 0
    for name, value in pipe.transformer.named_parameters():
        due = student.get_parameter(name)
        torch.testing.assert_close(value, due, rtol=0, atol=1e-6)
        changed += not torch.equal(due, plain[name])
    assert changed > 3


def by_the_card(exported: Path, seed: int) -> Any:
    """The image that the code on the model card makes, with the pipeline's own noise."""
    code = (exported / "README.md").read_text().split("```python\n")[1].split("```")[0]
    load, ask = code.split("image = pipe(")
    names: dict[str, Any] = {}
    exec(load.replace("THIS_FOLDER", str(exported)), names)
    assert CAT in ask
    torch.manual_seed(seed)
    exec(f"image = pipe({ask}".replace("cat.png", str(exported / "cat.png")), names)
    answer = names["image"]
    return np.asarray(answer.frames[0][0] if "frames" in answer else answer.images[0]).astype(int)


def test_what_a_student_is_told_is_exported_with_it(tmp_path: Path) -> None:
    """Flux's guidance, the prompts' length and the images' size; the trial encodes as pipelines."""
    save_flux(tmp_path / "flux", text=True, guidance_embeds=True)
    own = {"sample_size": [4, 8], "embedded_guidance": 1.5, "max_sequence_length": 16}
    student = open_student(
        f"diffusers:{tmp_path}/flux", {**own, "text_dtype": "bf16"}, Asked(timestep=999)
    )
    assert export(student, tmp_path / "out", "diffusers", device="cpu") <= 1
    card = (tmp_path / "out" / "README.md").read_text()
    assert "with prompts encoded in float32 by both, not in bf16)." in card
    again = open_student(f"diffusers:{tmp_path}/out", {})
    assert again.options == own
    other = open_student(f"diffusers:{tmp_path}/out", {"embedded_guidance": 3.0})
    assert other.options == {**own, "embedded_guidance": 3.0}
    prompts, like = PromptSet("two", PROMPTS[:2]), {"text_dtype": "float32"}
    due, found, changed = (
        next(
            make_sampler(one, Seeds(first=0, last=1), None, prompts, "cpu", **told).images([[0]], 1)
        )[1]
        for one, told in ((student, like), (again, {}), (other, {}))
    )
    assert np.array_equal(found, due)
    assert not np.array_equal(changed, due)
    file = tmp_path / "out" / STATEMENT
    earlier = {
        key: value for key, value in read_sealed(file, CheckpointError).items() if key != "options"
    }
    write_sealed(file, earlier)
    assert open_student(f"diffusers:{tmp_path}/out", own).asked == again.asked


def test_a_runs_prompts_are_encoded_in_another_dtype_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    """As an export's trial does, whatever the experiment's teacher was told."""
    (tmp_path / "out").mkdir()
    write_text(tmp_path / "out" / CONFIG, configured("qwen", tmp_path).to_yaml())
    spec = f"run:{tmp_path}/out"
    assert load_text_encoder(spec)(["a"]).hidden.dtype == torch.bfloat16
    assert load_text_encoder(spec, text_dtype="float32")(["a"]).hidden.dtype == torch.float32


def test_wans_pipeline_asks_at_one_timestep_alone(tmp_path: Path) -> None:
    save_wan(tmp_path / "wan", text=True)
    student = open_student(
        f"diffusers:{tmp_path}/wan", {"sample_size": [1, 8, 8]}, Asked(timestep=500)
    )
    assert student.noise == "unit"
    with pytest.raises(ConfigError, match="asks for its one step at timestep 999 only"):
        export(student, tmp_path / "out", "diffusers", device="cpu")
    assert not (tmp_path / "out").exists()
