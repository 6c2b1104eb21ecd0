"""Edits of a function as a whole, on a training function with options, loops and a base class."""

import pytest

from disback_plugin.patching import (
    AddParameter,
    AnchorError,
    Decorate,
    Edit,
    Guard,
    Increases,
    Insert,
    Loops,
    ReplaceCall,
    apply_patches,
    repair,
)

SOURCE = """\
@command()
@option("--lr")
def train(lr=1,
          count=0,
):
    for part in range(2):
        other.step(part)
    for part in range(2):
        with net.sync(part):
            # as it was
            net.step(part)
    count += 1
    total.count += 1

class Sampler(Base):
    def __init__(self, data):
        super().__init__(data)
"""


def after(edit: Edit) -> str:
    changed = apply_patches({"f.py": SOURCE.encode()}, [repair("p", "", edit)])["f.py"].decode()
    compile(changed, "f.py", "exec")
    return changed


TRAIN = ("f.py", "train")
INIT = ("f.py", "Sampler.__init__")


def test_a_decorator_is_added_as_the_innermost() -> None:
    edit = Decorate(*TRAIN, code="ours.options")
    assert after(edit) == SOURCE.replace("def train", "@ours.options\ndef train")


def test_a_parameter_is_added_and_laid_out_like_the_others() -> None:
    edit = AddParameter(*TRAIN, "ours", default="None")
    added = "          count=0,\n          ours=None,\n):"
    assert after(edit) == SOURCE.replace("          count=0,\n):", added)
    one = AddParameter(*INIT, "ours", default="None")
    assert after(one) == SOURCE.replace("self, data)", "self, data, ours=None)", 1)


def test_a_parameter_that_is_there_is_not_added() -> None:
    with pytest.raises(AnchorError, match="parameters, none of them count"):
        after(AddParameter(*TRAIN, "count", default="1"))


def test_a_loop_is_guarded_by_what_it_uses_with_its_comments() -> None:
    loop = SOURCE[SOURCE.rindex("    for part") : SOURCE.index("    count +=")]
    guarded = "    if may:  # disback\n" + "".join(f"    {line}\n" for line in loop.splitlines())
    assert after(Guard(*TRAIN, Loops("net"), condition="may")) == SOURCE.replace(loop, guarded)


def test_an_augmented_assignment_is_a_place() -> None:
    edit = Insert(*TRAIN, before=Increases("count"), code="end()")
    assert after(edit) == SOURCE.replace("    count +=", "    end()  # disback\n    count +=", 1)
    with pytest.raises(AnchorError, match="an augmented assignment to lr"):
        after(Insert(*TRAIN, before=Increases("lr"), code="end()"))


def test_a_call_of_the_plain_super_is_found() -> None:
    edit = ReplaceCall(*INIT, "super().__init__(data)", code="super().__init__()")
    assert after(edit) == SOURCE.replace("super().__init__(data)", "super().__init__()")
