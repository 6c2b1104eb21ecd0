"""Features: the lines that hand DMD2's training loop to the plugin's overlay."""

from typing import Literal

from disback_plugin.patching import (
    AddToDict,
    AppendTo,
    Assigns,
    Calls,
    Edit,
    Guard,
    Imports,
    Insert,
    NarrowIf,
    Patch,
    Returns,
)
from disback_plugin.patching.shapes import Shape

SD, EDM = "main/train_sd.py", "main/edm/train_edm.py"
BOTH = (SD, EDM)
INIT, TRAIN, STEP = "Trainer.__init__", "Trainer.train", "Trainer.train_one_step"
SAVE, LOAD = "Trainer.save", "Trainer.load"
GRADIENT = "COMPUTE_GENERATOR_GRADIENT"
MAY_UPDATE = "self.disback.update_student"


def _insert(
    file: str, function: str, where: Literal["before", "after"], shape: Shape, code: str
) -> Edit:
    return Insert(file=file, function=function, where=where, shape=shape, code=code)


def _both(function: str, where: Literal["before", "after"], shape: Shape, code: str) -> list[Edit]:
    return [_insert(file, function, where, shape, code) for file in BOTH]


ARGUMENTS = Patch(
    name="arguments",
    kind="feature",
    summary="--disback and its settings; what cannot work is refused before anything is loaded",
    edits=(
        *_both(
            "",
            "after",
            Imports("Accelerator"),
            "import disback_plugin.adapters.dmd2.overlay as disback",
        ),
        *_both("parse_args", "before", Calls("parser.parse_args"), "disback.add_arguments(parser)"),
        *_both("parse_args", "before", Returns("args"), "disback.check_arguments(parser, args)"),
    ),
)

ATTACH = Patch(
    name="attach",
    kind="feature",
    summary="the teacher is remembered as it is built, the session attached once wrapped",
    edits=(
        *(
            _insert(
                file,
                INIT,
                "after",
                Assigns("self.model"),
                f'self.disback = disback.Overlay(args, self.model, "{adapter}")',
            )
            for file, adapter in ((SD, "dmd2-sd"), (EDM, "dmd2-edm"))
        ),
        *_both(INIT, "after", Assigns("self.accelerator"), "self.disback.attach(self.model)"),
    ),
)

STEPS = Patch(
    name="steps",
    kind="feature",
    summary="a node is installed before, recorded after a step; on every rank, before a save",
    edits=(
        *_both(TRAIN, "before", Calls("self.train_one_step"), "self.disback.begin_step(self.step)"),
        *_both(TRAIN, "after", Calls("self.train_one_step"), "self.disback.end_step(self.step)"),
        *(AppendTo(file=file, function=TRAIN, code="self.disback.close()") for file in BOTH),
    ),
)

HOLD_GENERATOR = Patch(
    name="hold-generator",
    kind="feature",
    summary="while recording: no generator update, optimizer or scheduler step, and no pictures",
    edits=(
        *_both(
            STEP,
            "after",
            Assigns(GRADIENT),
            f"{GRADIENT} = {GRADIENT} and {MAY_UPDATE}",
        ),
        *(
            Guard(
                file=file,
                function=STEP,
                shape=Calls("self.scheduler_generator.step"),
                condition=MAY_UPDATE,
            )
            for file in BOTH
        ),
        _insert(SD, STEP, "after", Assigns("visual"), f"visual = visual and {MAY_UPDATE}"),
        NarrowIf(file=EDM, function=STEP, name="self.wandb_iters", condition=MAY_UPDATE, times=2),
    ),
)

LOGGING = Patch(
    name="logging",
    kind="feature",
    summary="stage, node and distance join every dict that goes to W&B",
    edits=(
        *(
            _insert(
                file,
                STEP,
                "before",
                Calls("wandb.log", first=name),
                f"{name}.update(self.disback.metrics(self.step))",
            )
            for file, name in ((SD, "wandb_loss_dict"), (SD, "data_dict"), (EDM, "data_dict"))
        ),
        *(
            AddToDict(
                file=file,
                function=TRAIN,
                key="per iteration time",
                code="self.disback.metrics(self.step)",
            )
            for file in BOTH
        ),
    ),
)

CHECKPOINTS = Patch(
    name="checkpoints",
    kind="feature",
    summary="the session's state is a small file in DMD2's checkpoints, written before the weights",
    edits=(
        # before the weights: a save cut short must not leave a node without its side file
        _insert(
            SD,
            SAVE,
            "after",
            Calls("os.makedirs", first="output_path"),
            "self.disback.save(output_path)",
        ),
        _insert(
            EDM,
            SAVE,
            "before",
            Calls("self.accelerator.save_state"),
            "self.disback.save(output_path)",
        ),
        *_both(
            LOAD,
            "after",
            Calls("self.accelerator.print"),
            "self.disback.load(checkpoint_path)",
        ),
    ),
)

FEATURES = (ARGUMENTS, ATTACH, STEPS, HOLD_GENERATOR, LOGGING, CHECKPOINTS)
