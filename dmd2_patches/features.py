"""Features: the lines that hand DMD2's training loop to the plugin's overlay."""

from disback_plugin.patching import (
    AddToDict,
    AppendTo,
    Assigns,
    Calls,
    Guard,
    Imports,
    Insert,
    NarrowIf,
    Returns,
    feature,
)
from dmd2_patches.repairs import (
    ADAPTER,
    BOTH,
    EDM,
    INIT,
    LOAD,
    LOADED,
    MAKES_FOLDER,
    ONE_STEP,
    SAVE,
    SAVES,
    SD,
    TRAIN,
)

PARSE, STEP = "parse_args", "Trainer.train_one_step"
GRADIENT = "COMPUTE_GENERATOR_GRADIENT"
MAY_UPDATE = "self.disback.update_student"
PROMPTS = "real_dataset if args.denoising else dataset"  # that the generator gets
METRICS = "self.disback.metrics(self.step)"

FEATURES = (
    feature(
        "arguments",
        "--disback and its settings; what cannot work is refused before anything is loaded",
        Insert(BOTH, "", after=Imports("Accelerator"), code=f"import {ADAPTER}.overlay as disback"),
        Insert(
            BOTH, PARSE, before=Calls("parser.parse_args"), code="disback.add_arguments(parser)"
        ),
        Insert(BOTH, PARSE, before=Returns("args"), code="disback.check_arguments(parser, args)"),
    ),
    feature(
        "attach",
        "the teacher is remembered as it is built, the session attached once wrapped",
        *(
            Insert(
                file,
                INIT,
                after=Assigns("self.model"),
                code=f'self.disback = disback.Overlay(args, self.model, "{adapter}")',
            )
            for file, adapter in ((SD, "dmd2-sd"), (EDM, "dmd2-edm"))
        ),
        *(
            Insert(file, INIT, after=Assigns("self.accelerator"), code=f"self.disback.attach({on})")
            for file, on in ((SD, f"self.model, {PROMPTS}"), (EDM, "self.model"))
        ),
    ),
    feature(
        "steps",
        "a node is installed before, recorded after a step; on every rank, before a save",
        Insert(BOTH, TRAIN, before=ONE_STEP, code="self.disback.begin_step(self.step)"),
        Insert(BOTH, TRAIN, after=ONE_STEP, code="self.disback.end_step(self.step)"),
        AppendTo(BOTH, TRAIN, code="self.disback.close()"),
    ),
    feature(
        "hold-generator",
        "while recording: no generator update, optimizer or scheduler step, and no pictures",
        Insert(
            BOTH, STEP, after=Assigns(GRADIENT), code=f"{GRADIENT} = {GRADIENT} and {MAY_UPDATE}"
        ),
        Guard(BOTH, STEP, Calls("self.scheduler_generator.step"), condition=MAY_UPDATE),
        Insert(SD, STEP, after=Assigns("visual"), code=f"visual = visual and {MAY_UPDATE}"),
        NarrowIf(EDM, STEP, "self.wandb_iters", condition=MAY_UPDATE, times=2),
    ),
    feature(
        "logging",
        "stage, node and distance join every dict that goes to W&B",
        *(
            Insert(
                file, STEP, before=Calls("wandb.log", first=name), code=f"{name}.update({METRICS})"
            )
            for file, name in ((SD, "wandb_loss_dict"), (BOTH, "data_dict"))
        ),
        AddToDict(BOTH, TRAIN, "per iteration time", code=METRICS),
    ),
    feature(
        "checkpoints",
        "the session's state is a small file in DMD2's checkpoints, written before the weights",
        # before the weights: a save cut short must not leave a node without its side file
        Insert(SD, SAVE, after=MAKES_FOLDER, code="self.disback.save(output_path)"),
        Insert(EDM, SAVE, before=SAVES, code="self.disback.save(output_path)"),
        Insert(BOTH, LOAD, after=LOADED, code="self.disback.load(checkpoint_path)"),
    ),
)
