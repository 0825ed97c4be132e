from pathlib import Path

import pytest

from zellige.core.errors import InputError
from zellige.data.whole_folder import check_new, whole_folder


def interrupted(out: Path) -> None:
    with whole_folder(out) as unfinished:
        (unfinished / "part").write_text("x")
        assert not out.exists()
        raise KeyboardInterrupt


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "a/b"
    with pytest.raises(KeyboardInterrupt):
        interrupted(out)
    assert list((tmp_path / "a").iterdir()) == []
    out.mkdir()
    check_new(out)
    with whole_folder(out) as unfinished:
        (unfinished / "part").write_text("x")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["a", "a/b", "a/b/part"]
    with pytest.raises(InputError, match="it holds files"):
        check_new(out)
