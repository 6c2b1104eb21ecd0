"""A teacher known from elsewhere: in more precision, or from before a checkpoint was loaded."""

import copy

import torch

from disback_plugin.path import TeacherReference
from disback_plugin.real_score import InPlace
from tests.toy import network, same, tensors_of


def test_a_teacher_given_in_more_precision_comes_back_to_the_byte() -> None:
    exact = TeacherReference.of(network(1).state_dict())
    teacher, fake_score = network(1).to(torch.bfloat16), network(1)
    before = tensors_of(teacher)
    installation = InPlace(teacher, fake_score, "stochastic", exact)
    node = {
        name: value + 0.01 if value.is_floating_point() else value
        for name, value in exact.tensors.items()
    }
    assert installation.install(1, node).distance > 0
    assert not same(before, tensors_of(teacher))
    report = installation.install(0, exact.tensors)
    assert same(before, tensors_of(teacher))
    assert report.distance == 0.0  # compared with the teacher as it is installed


def test_a_node_that_a_cast_erases_is_measured_as_erased() -> None:
    exact = TeacherReference.of(network(1).state_dict())
    teacher = network(1).to(torch.bfloat16)
    installation = InPlace(teacher, network(1), "nearest", exact)
    node = {
        name: value * (1 + 1e-6) if value.is_floating_point() else value
        for name, value in exact.tensors.items()
    }
    assert installation.precision_of(node).distance > 1e-7
    assert installation.install(1, node).distance < 1e-4


def test_a_teacher_from_before_a_checkpoint_is_node_0() -> None:
    teacher = network(1)
    reference = TeacherReference.of(teacher.state_dict())
    with torch.no_grad():
        for value in teacher.parameters():
            value += 1  # a node, loaded by the host
    installation = InPlace(teacher, copy.deepcopy(teacher), "nearest", reference)
    installation.install(0, installation.reference.tensors)
    assert same(tensors_of(teacher), tensors_of(network(1)))
