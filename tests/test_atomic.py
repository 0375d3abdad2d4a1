"""Files are whole or not there."""

import os

import pytest

from dreamfusion_pl import atomic
from dreamfusion_pl.atomic import replacing


def test_a_finished_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "file.txt"
    for text in ("one", "two"):
        with replacing(path) as temporary:
            assert temporary.parent == path.parent and temporary.suffix == ".txt"
            temporary.write_text(text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="fire"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("patience", "refused"), [(30.0, False), (0.0, True)])
def test_a_file_that_is_being_read_is_waited_for_on_windows(tmp_path, monkeypatch, patience, refused):
    path, answers, replace = tmp_path / "status.json", [1, 1, 0], os.replace

    def refusing(source, target):
        if answers.pop(0):
            raise PermissionError(13, "WinError 32: used by another process", str(target))
        replace(source, target)

    monkeypatch.setattr(atomic, "PATIENCE_SECONDS", patience)
    monkeypatch.setattr(os, "replace", refusing)

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("new")

    if refused:
        with pytest.raises(PermissionError):
            write()
        assert answers == [1, 0] and not list(tmp_path.iterdir())
    else:
        write()
        assert path.read_text() == "new" and answers == []
