"""Every form of export: what it holds, and that it makes the images of its source."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, UNet2DConditionModel
from peft import LoraConfig
from safetensors.torch import load_file

from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.lab.data import load_prompts
from disback_plugin.lab.evaluation.samples import open_samples
from disback_plugin.lab.export import export
from disback_plugin.lab.export.exporter import Exporter
from disback_plugin.lab.results.evaluations import Evaluation, write_evaluation
from disback_plugin.lab.sampling import (
    Asked,
    Samples,
    make_sampler,
    open_student,
    parse_seeds,
    sample,
)
from tests.pretrained.files import OPENAI_OPTIONS

OWN = {"README.md", "student.json"}
PIPELINE = {"model_index.json", "unet", "scheduler"}
TEXT = {*PIPELINE, "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"}
# source, options, how it is asked, form, files, where the export is sampled from, with options
CASES: dict[str, tuple[str, dict[str, Any], Asked, str, set[str], str, dict[str, Any]]] = {
    "sdxl pipeline": (
        *("diffusers:{}/sdxl", {}, Asked(timestep=399), "diffusers", TEXT),
        *("diffusers:OUT", {}),
    ),
    "sdxl bin": (
        *("diffusers:{}/sdxl", {}, Asked(timestep=399), "bin", {"student_unet.bin"}),
        *("weights:OUT/student_unet.bin", {"base": "diffusers:{}/sdxl"}),
    ),
    "sd safetensors, noise of its level": (
        *("diffusers:{}/sd", {}, Asked(timestep=399, noise="sigma"), "safetensors"),
        *({"student_unet.safetensors"}, "weights:OUT/student_unet.safetensors"),
        {"base": "diffusers:{}/sd"},
    ),
    "ddpm": (
        *("diffusers:{}/ddpm", {}, Asked(timestep=999), "diffusers", PIPELINE),
        *("diffusers:OUT", {}),
    ),
    "cm": (
        *("cm:{}/cd_tiny.pt", OPENAI_OPTIONS, Asked(), "diffusers", PIPELINE, "cm:OUT", {}),
    ),
    "edm": (
        *("edm-pkl:{}/edm.pkl", {}, Asked(sigma=80.0), "safetensors", {"student.safetensors"}),
        *("safetensors:OUT/student.safetensors", {}),
    ),
}  # fmt: skip


def sampled(spec: str, options: dict[str, Any], asked: Asked, files: Path, out: Path) -> Samples:
    student = open_student(spec, options, asked)
    prompts = load_prompts(files / "prompts.txt") if student.takes_text else None
    sampler = make_sampler(student, parse_seeds("0-3"), prompts=prompts, device="cpu")
    return sample(sampler, out, 4, grid=0)


@pytest.mark.parametrize("case", CASES)
def test_an_export_is_sampled_as_its_source(case: str, files: Path, tmp_path: Path) -> None:
    """`disback sample` on the export needs not be told how the student is asked."""
    spec, options, asked, form, held, again, again_options = CASES[case]
    spec, out = spec.replace("{}", str(files)), tmp_path / "out"
    apart = export(open_student(spec, options, asked), out, form, device="cpu")  # type: ignore[arg-type]
    assert apart <= 1
    assert {file.name for file in out.iterdir()} == OWN | held
    again = again.replace("OUT", str(out))
    again_options = {k: v.replace("{}", str(files)) for k, v in again_options.items()}
    first = sampled(spec, options, asked, files, tmp_path / "source.npz")
    second = sampled(again, again_options, Asked(), files, tmp_path / "export.npz")
    assert second.images_sha256 == first.images_sha256
    assert (second.student.sigma, second.student.noise) == (
        first.student.sigma,
        first.student.noise,
    )


def test_the_ddim_pipeline_itself_makes_the_images_of_the_last_timestep(
    files: Path, tmp_path: Path
) -> None:
    student = open_student(f"diffusers:{files}/ddpm", {}, Asked(timestep=999))
    export(student, tmp_path / "out", "diffusers", device="cpu")
    pipe = DDIMPipeline.from_pretrained(tmp_path / "out")
    generator = torch.Generator().manual_seed(7)
    found = pipe(2, generator, num_inference_steps=1, output_type="np").images
    z = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = (student.generator(z) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_weights_are_compared_as_they_are_written(
    dtype: str, files: Path, tmp_path: Path
) -> None:
    student = open_student(f"diffusers:{files}/sdxl", {}, Asked(timestep=399))
    assert export(student, tmp_path / "out", "safetensors", dtype, device="cpu") <= 1
    written = load_file(tmp_path / "out" / "student_unet.safetensors")
    due = torch.float16 if dtype == "fp16" else torch.bfloat16
    assert {value.dtype for value in written.values()} == {due}


def test_a_lora_student_stays_a_lora(files: Path, tmp_path: Path) -> None:
    """In the form of load_lora_weights, with its scale: alpha is twice the rank here."""
    unet = UNet2DConditionModel.from_pretrained(files / "sdxl", subfolder="unet")
    unet.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "conv1"]))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in unet.named_parameters():
            if ".lora_" in name:
                value.normal_(0, 0.2)
    torch.save(unet.state_dict(), tmp_path / "pytorch_model.bin")
    spec = f"weights:{tmp_path}/pytorch_model.bin"
    options = {"base": f"diffusers:{files}/sdxl", "lora_alpha": 8}
    out, asked = tmp_path / "out", Asked(timestep=399)
    assert export(open_student(spec, options, asked), out, "lora", device="cpu") <= 1
    name = "pytorch_lora_weights.safetensors"
    assert {file.name for file in out.iterdir()} == OWN | {name}
    assert all(".lora_" in key for key in load_file(out / name))
    first = sampled(spec, options, asked, files, tmp_path / "source.npz")
    again = {"lora": str(out / name)}
    second = sampled(f"diffusers:{files}/sdxl", again, asked, files, tmp_path / "export.npz")
    assert second.images_sha256 == first.images_sha256
    plain = open_student(f"diffusers:{files}/sdxl", {}, asked)
    with pytest.raises(ConfigError, match="is no LoRA: choose another --as"):
        export(plain, tmp_path / "other", "lora", device="cpu")
    assert not (tmp_path / "other").exists()


def test_what_makes_other_images_is_not_written(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from disback_plugin.lab.export import text

    def damaged(module: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        return {name: value * 1.5 for name, value in module.state_dict().items()}

    monkeypatch.setattr(text, "tensors_in", damaged)
    student = open_student(f"diffusers:{files}/sdxl", {}, Asked(timestep=399))
    with pytest.raises(CheckpointError, match=r"makes other images .* nothing was written"):
        export(student, tmp_path / "out", "bin", device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_an_export_overwrites_nothing(files: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("dear")
    student = open_student(f"edm-pkl:{files}/edm.pkl", {}, Asked(sigma=80.0))
    with pytest.raises(ConfigError, match="exists and is not empty"):
        export(student, tmp_path / "out", "safetensors", device="cpu")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_form_that_such_students_do_not_have(files: Path, tmp_path: Path) -> None:
    student = open_student(f"edm-pkl:{files}/edm.pkl", {}, Asked(sigma=80.0))
    with pytest.raises(ConfigError, match="EDM and our own .*--as safetensors, not diffusers"):
        export(student, tmp_path / "out", "diffusers", device="cpu")


def test_the_card_tells_use_numbers_and_licence(files: Path, tmp_path: Path) -> None:
    result = Evaluation(
        protocol="edm",
        numbers={"fid": 3.14159},
        ranges={},
        summary={},
        num_images=50_000,
        smoke=True,
        pixels="as they are",
        samples={},
        reference={},
        network={},
    )
    write_evaluation(tmp_path / "a.eval-edm.json", result)
    student = open_student(f"edm-pkl:{files}/edm.pkl", {}, Asked(sigma=80.0))
    out = tmp_path / "out"
    export(student, out, "safetensors", results=[tmp_path / "a.eval-edm.json"], device="cpu")
    card = (out / "README.md").read_text()
    assert "| edm (stand-ins) (images that name no student) | fid | 3.142 | 50,000 |" in card
    assert "Its licence: CC BY-NC-SA 4.0 (NVlabs/edm)." in card
    code = card.split("```python\n")[1].split("```")[0]
    code = code.replace('"safetensors:', f'"safetensors:{out}/').replace(", labels)", ")")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["images"].shape == (16, 3, 8, 8)


def test_the_card_has_numbers_of_this_student_alone(
    files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where, spec = tmp_path / "students", f"edm-pkl:{tmp_path}/students/edm.pkl"
    where.mkdir()
    shutil.copy(files / "edm.pkl", where)
    for name, sigma in (("80", 80.0), ("1", 1.0)):
        sampler = make_sampler(
            open_student(spec, {}, Asked(sigma=sigma)), parse_seeds("0-7"), device="cpu"
        )
        sample(sampler, tmp_path / f"{name}.npz", 4)
        images = open_samples(tmp_path / f"{name}.npz")
        result = Evaluation(
            protocol="edm",
            numbers={"FID": sigma},
            ranges={},
            summary={},
            num_images=8,
            smoke=False,
            pixels="as they are",
            samples={"said": dict(images.said or {})},
            reference={},
            network={},
        )
        write_evaluation(where / f"{name}.eval-edm.json", result)
    student = open_student(spec, {}, Asked(sigma=80.0))
    export(student, tmp_path / "out", "safetensors", device="cpu")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| edm | FID | 80 | 8 |" in card
    assert "| 1 | 8 |" not in card
    assert "1.eval-edm.json is left out of the model card" in caplog.text
    with torch.no_grad():
        next(student.denoiser.parameters()).add_(1.0)
    with pytest.raises(ConfigError, match=r"80\.eval-edm\.json is of another student \(edm-pkl:"):
        export(student, tmp_path / "no", "safetensors", results=[where / "80.eval-edm.json"])
    assert not (tmp_path / "no").exists()


def test_exporters_are_abstract_until_they_can_make_images() -> None:
    assert Exporter.__abstractmethods__ == {"write", "images", "usage"}
