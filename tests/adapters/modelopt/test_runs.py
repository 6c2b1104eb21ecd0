"""What only Model Optimizer has: a pipeline that gives x0 and features from one teacher, an EMA."""

from tests.adapters.cases import cases
from tests.adapters.checks import AT, RECORD
from tests.adapters.runs import Runs

FREQ = 2  # the student's turn, `student_update_freq` of the loop


@cases("modelopt")
def test_every_answer_is_the_scheduled_nodes_own(runs: Runs) -> None:
    """Computed again from the node on disk, guidance included; so are the teacher's."""
    for rank in runs.ranks:
        notes, answered = runs.notes("on", rank), set()
        for line in notes:
            turn = line["step"] >= RECORD and line["step"] % FREQ == 0
            assert line["answered"] == (line["real"] if turn else None), line["step"]
            answered |= {line["answered"]} - {None}
        assert len(answered) == len(AT)  # both nodes, and the teacher
        plain = runs.notes("plain", rank)
        assert [line["answered"] for line in plain] == [plain[0]["teacher"], None] * 2


@cases("modelopt")
def test_with_a_discriminator_the_teacher_stays_and_gives_all_features(runs: Runs) -> None:
    has_gan = "gan_loss_weight_gen" in runs.case.options
    for rank in runs.ranks:
        notes = runs.notes("on", rank)
        assert {line["features"] for line in notes} == {True if has_gan else None}
        assert (len({line["teacher"] for line in notes}) == 1) == has_gan
        for line in notes if has_gan else ():
            turn = line["answered"] is not None
            assert line["with_gradient"] == ([True] if turn else [False] * 3), line["step"]


@cases("modelopt", brief=False)
def test_the_average_begins_with_the_student_and_is_resumed(runs: Runs) -> None:
    for rank in runs.ranks:
        on = runs.notes("on", rank)
        assert len({line["ema"] for line in on[: RECORD + 1]}) == 1
        assert len({line["ema"] for line in on}) == 4  # three turns of the student
        for name in ("walking", "resumed"):
            for line in runs.notes(name, rank):
                assert line["ema"] == on[line["step"]]["ema"], line["step"]
