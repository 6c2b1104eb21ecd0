"""What `disback eval` does: opens what it was given, works where a kill loses little, writes."""

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState

from disback_plugin.distributed import gather, is_main, on_main
from disback_plugin.errors import ConfigError
from disback_plugin.files import remove
from disback_plugin.lab.evaluation.clip_score import measure_clip
from disback_plugin.lab.evaluation.evaluate import Request, evaluate
from disback_plugin.lab.evaluation.making import make_reference
from disback_plugin.lab.evaluation.measuring import Workplace
from disback_plugin.lab.evaluation.networks import open_network
from disback_plugin.lab.evaluation.protocol import Number
from disback_plugin.lab.evaluation.protocols import get_protocol
from disback_plugin.lab.evaluation.references import read_reference
from disback_plugin.lab.evaluation.samples import Images, open_samples
from disback_plugin.lab.results.evaluations import NAME, Evaluation, write_evaluation
from disback_plugin.lab.trainer.run_folder import locked


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The command's options. networks: folder of network files; features: instead of Inception's.

    prompts: a file of one prompt an image, for the CLIP score; else as samples.json says.
    """

    protocol: str
    networks: Path | None = None
    features: str | None = None
    numbers: tuple[Number, ...] | None = None
    prompts: Path | None = None
    smoke: bool = False
    cell: str | None = None
    device: str = "auto"

    def request(self) -> Request:
        """With the protocol and the network opened."""
        protocol = get_protocol(self.protocol)
        network = open_network(protocol.network, self.networks, self.features)
        return Request(
            protocol=protocol,
            network=network,
            numbers=self.numbers,
            smoke=self.smoke,
            cell=self.cell,
        )

    @property
    def tag(self) -> str:
        """In the names of results: the protocol, and what took its network's place."""
        kind = [] if self.features is None else [self.features.partition(":")[0]]
        return "-".join([self.protocol, *kind])


def evaluate_samples(
    images: Images, reference: Path, settings: Settings, out: Path, request: Request | None = None
) -> Evaluation:
    """Measure `images`, write the result to `out`; several processes share the work."""
    request = request or settings.request()
    read = read_reference(reference, request.protocol, request.network)
    state = processes(settings.device)
    folder = out.with_name(f".{out.stem}.work")
    with locked(folder):
        place = Workplace(folder=folder, device=state.device, share=_share(state), progress=True)
        wanted = settings.numbers or request.protocol.numbers
        more = {}
        if "CLIP score" in wanted:
            more = measure_clip(images, settings.prompts, settings.networks, place)
        result = evaluate(images, read, request, place, more)
        on_main(lambda: write_evaluation(out, result), f"writing {out}")
    _clear(folder)
    return result


def evaluate_path(samples: Path, reference: Path, settings: Settings, out: Path | None) -> Path:
    """As `evaluate_samples`; where the result lies: beside the samples unless `out` says."""
    out = out or beside(samples, settings)
    evaluate_samples(open_samples(samples), reference, settings, out)
    return out


def reference_from(real: Path, settings: Settings, file: Path) -> None:
    """Make a reference of the images at `real`."""
    images, request, state = open_samples(real), settings.request(), processes(settings.device)
    folder = file.with_name(f".{file.stem}.work")
    with locked(folder):
        place = Workplace(folder=folder, device=state.device, share=_share(state), progress=True)
        make_reference(images, request, place, file)
    _clear(folder)


def beside(samples: Path, settings: Settings) -> Path:
    """SAMPLES.eval-PROTOCOL.json."""
    name = samples.stem if samples.suffix in (".npz", ".zip") else samples.name
    return samples.with_name(f"{name}.{NAME}{settings.tag}.json")


def processes(device: str) -> PartialState:
    """This process and its device, among those that torchrun or `accelerate launch` started."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda, but torch sees no CUDA device; use auto or cpu")
    return PartialState(cpu=device == "cpu")


def _share(state: PartialState) -> tuple[int, int]:
    return state.process_index, state.num_processes


def _clear(folder: Path) -> None:
    gather(None, "finishing")
    if is_main():
        remove(folder)
