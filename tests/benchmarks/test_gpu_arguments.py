"""A wrong option is found before any work, and named."""

from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.arguments import parse


@pytest.mark.parametrize(
    "options",
    [
        ["--stages=chekc"],
        ["--minutes=0"],
        ["--minutes=nan"],
        ["--minutes=inf"],
        ["--workers=-1"],
        [f"--output={__file__}"],
        [f"--output={__file__}/below"],
        ["--filter=("],
        ["--plugin=no/such/file.py"],
        ["--define=FASTRNN_CUDA"],
        ["--define==ON"],
        ["--backends=nosuch"],
        ["--backends=triton,cpu"],  # which is not for GPUs
    ],
    ids=lambda options: options[0],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_a_wrong_option_is_refused(
    options: list[str], more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main([*options, *more])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert options[0].split("=")[0] in said
    assert "should be" in said


def test_a_folder_with_other_files_is_refused_where_it_would_be_built_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SystemExit):
        parse([f"--site={tmp_path}"])
    assert "--site" in capsys.readouterr().err
    parse([f"--site={tmp_path}", "--stages=check"])


def test_good_options_are_taken(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.touch()
    settings, dry_run = parse(["--define=A=ON", f"--plugin={plugin}", "--backends=mine,triton"])
    assert settings.defines == ("A=ON",)
    assert settings.backends == ("mine", "triton")  # a plugin may add any
    assert not dry_run
    assert parse(["--backends=triton", "--dry-run"])[1]


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    assert "3  nothing failed, but a question, a case" in text
    assert "--stages report --output OUTPUT" in text
