"""`disback HOST apply|status|diff|revert`: one command a patched host, each package on demand."""

import sys

import pytest

from disback_plugin.cli import main
from disback_plugin.cli.patches import HOSTS


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.command)
def test_the_help_of_a_host_starts_without_its_package(
    host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, host.package, None)
    with pytest.raises(SystemExit) as stop:
        main([host.command, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert f"disback {host.command} apply {host.title}" in shown
    assert host.url in shown
    assert host.train in shown


def test_a_package_of_patches_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "dmd2_patches", None)
    assert main(["dmd2", "status", "nowhere"]) == 2
    assert "the patches for DMD2 (dmd2_patches) are not installed" in capsys.readouterr().err


def test_a_missing_libcst_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("diff_instruct_patches")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("disback_plugin.patching")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "libcst", None)
    assert main(["diff-instruct", "status", "nowhere"]) == 2
    expected = "patching needs libcst: pip install 'disback_plugin[diff-instruct]'"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.command)
def test_the_repairs_in_the_examples_exist(host) -> None:
    pytest.importorskip("libcst")
    package = pytest.importorskip(host.package)
    names = {patch.name for patch in package.REPAIRS}
    assert set(host.repair.split(",")) <= names | {"none"}
