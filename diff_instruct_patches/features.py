"""Features: the lines that hand Diff-Instruct's training loop to the plugin's overlay."""

from diff_instruct_patches.repairs import LOOP, SCRIPT
from disback_plugin.patching import (
    AddParameter,
    AppendTo,
    Assigns,
    Calls,
    Decorate,
    Guard,
    GuardLoop,
    Imports,
    Increases,
    Insert,
    Patch,
)

TRAIN = "training_loop"
MAY_UPDATE = "run.update_student"
IMPORT = "import disback_plugin.adapters.diff_instruct.overlay as disback"

ARGUMENTS = Patch(
    name="arguments",
    kind="feature",
    summary="--disback and its settings, handed to the loop; what cannot work is refused first",
    edits=(
        Insert(
            file=SCRIPT, function="", shape=Imports("training_loop"), where="after", code=IMPORT
        ),
        Decorate(file=SCRIPT, function="main", code="disback.options"),
        Insert(
            file=SCRIPT,
            function="main",
            shape=Assigns("c"),
            where="after",
            code="c.disback_settings = disback.settings(opts)",
        ),
        Insert(file=LOOP, function="", shape=Imports("misc"), where="after", code=IMPORT),
        AddParameter(file=LOOP, function=TRAIN, name="disback_settings", default="None"),
    ),
)

STEPS = Patch(
    name="steps",
    kind="feature",
    summary="the session attached to the loaded networks; around each step, on every rank",
    edits=(
        Insert(
            file=LOOP,
            function=TRAIN,
            shape=Assigns("iter_cnt"),
            where="after",
            code="run = disback.Overlay(disback_settings, net, Sg, G)",
        ),
        Insert(
            file=LOOP,
            function=TRAIN,
            shape=Calls("optimizer.zero_grad"),
            where="before",
            code="run.begin_step(cur_nimg // batch_size)",
        ),
        Insert(
            file=LOOP,
            function=TRAIN,
            shape=Increases("cur_nimg"),
            where="before",
            code="run.end_step(cur_nimg // batch_size)",
        ),
        AppendTo(file=LOOP, function=TRAIN, code="run.close()"),
    ),
)

HOLD_GENERATOR = Patch(
    name="hold-generator",
    kind="feature",
    summary="while recording: no generator pass, no step of its optimizer or its EMA",
    edits=(
        GuardLoop(file=LOOP, function=TRAIN, name="Gddp", condition=MAY_UPDATE),
        Guard(file=LOOP, function=TRAIN, shape=Calls("g_optimizer.step"), condition=MAY_UPDATE),
        Guard(file=LOOP, function=TRAIN, shape=Calls("p_ema.copy_"), condition=MAY_UPDATE),
    ),
)

LOGGING = Patch(
    name="logging",
    kind="feature",
    summary="stage, node and distance join stats.jsonl",
    edits=(
        Insert(
            file=LOOP,
            function=TRAIN,
            shape=Calls("training_stats.default_collector.update"),
            where="before",
            code="run.report(training_stats.report0, cur_nimg // batch_size - 1)",
        ),
    ),
)

RESUME = Patch(
    name="resume",
    kind="feature",
    summary="with --disback: a training state beside the snapshots, read by --disback_resume",
    edits=(
        Insert(
            file=LOOP,
            function=TRAIN,
            shape=Assigns("dataset_sampler"),
            where="after",
            code="state = disback.TrainingState(disback_settings, seed, batch_size)\n"
            "dataset_sampler = state.skip_seen(dataset_sampler)",
        ),
        # both before the loop, once the session is attached
        Insert(
            file=LOOP,
            function=TRAIN,
            shape=Assigns("run"),
            where="after",
            code="state.watch(run, dict(G=G, Sg=Sg, Gema=Gema), [optimizer, g_optimizer])\n"
            "cur_nimg, cur_tick = state.restore(cur_nimg, cur_tick, total_kimg)\n"
            "tick_start_nimg = cur_nimg",
        ),
        # after the metrics, which draw random numbers
        Insert(
            file=LOOP,
            function=TRAIN,
            shape=Increases("cur_tick"),
            where="before",
            code="state.end_tick(run_dir, cur_nimg, cur_tick, done, snapshot_ticks)",
        ),
    ),
)

FEATURES = (ARGUMENTS, STEPS, HOLD_GENERATOR, LOGGING, RESUME)
