"""Features: the lines that hand Diff-Instruct's training loop to the plugin's overlay."""

from diff_instruct_patches.repairs import ADAPTER, LOOP, MAIN, SCRIPT, TRAIN
from disback_plugin.patching import (
    AddParameter,
    AppendTo,
    Assigns,
    Calls,
    Decorate,
    Guard,
    Imports,
    Increases,
    Insert,
    Loops,
    feature,
)

STEP = "cur_nimg // batch_size"

FEATURES = (
    feature(
        "arguments",
        "--disback and its settings, handed to the loop; what cannot work is refused first",
        Insert(
            SCRIPT, "", after=Imports("training_loop"), code=f"import {ADAPTER}.overlay as disback"
        ),
        Decorate(SCRIPT, MAIN, code="disback.options"),
        Insert(
            SCRIPT, MAIN, after=Assigns("c"), code="c.disback_settings = disback.settings(opts)"
        ),
        Insert(LOOP, "", after=Imports("misc"), code=f"import {ADAPTER}.overlay as disback"),
        AddParameter(LOOP, TRAIN, "disback_settings", default="None"),
    ),
    feature(
        "steps",
        "the session attached to the loaded networks; around each step, on every rank",
        Insert(
            LOOP,
            TRAIN,
            after=Assigns("iter_cnt"),
            code="draws = disback.Draws(loss_fn, dataset_obj, init_sigma, batch_gpu)\n"
            "run = disback.Overlay(disback_settings, net, Sg, G, draws)",
        ),
        Insert(LOOP, TRAIN, before=Calls("optimizer.zero_grad"), code=f"run.begin_step({STEP})"),
        Insert(LOOP, TRAIN, before=Increases("cur_nimg"), code=f"run.end_step({STEP})"),
        AppendTo(LOOP, TRAIN, code="run.close()"),
    ),
    feature(
        "hold-generator",
        "while recording: no generator pass, no step of its optimizer or its EMA",
        *(
            Guard(LOOP, TRAIN, place, condition="run.update_student")
            for place in (Loops("Gddp"), Calls("g_optimizer.step"), Calls("p_ema.copy_"))
        ),
    ),
    feature(
        "logging",
        "stage, node and distance join stats.jsonl",
        Insert(
            LOOP,
            TRAIN,
            before=Calls("training_stats.default_collector.update"),
            code=f"run.report(training_stats.report0, {STEP} - 1)",
        ),
    ),
    feature(
        "resume",
        "with --disback: a training state beside the snapshots, read by --disback_resume",
        Insert(
            LOOP,
            TRAIN,
            after=Assigns("dataset_sampler"),
            code="state = disback.TrainingState(disback_settings, seed, batch_size)\n"
            "dataset_sampler = state.skip_seen(dataset_sampler)",
        ),
        # both before the loop, once the session is attached
        Insert(
            LOOP,
            TRAIN,
            after=Assigns("run"),
            code="state.watch(run, dict(G=G, Sg=Sg, Gema=Gema), [optimizer, g_optimizer])\n"
            "cur_nimg, cur_tick = state.restore(cur_nimg, cur_tick, total_kimg)\n"
            "tick_start_nimg = cur_nimg",
        ),
        # after the metrics, which draw random numbers
        Insert(
            LOOP,
            TRAIN,
            before=Increases("cur_tick"),
            code="state.end_tick(run_dir, cur_nimg, cur_tick, done, snapshot_ticks)",
        ),
    ),
)
