"""Files of environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from stablehand.node.env import ConfigError, build_env
from stablehand.node.envfiles import file_references, parse_env_file, read_env_files
from stablehand.node.volumes.contract import VolumeError
from tests.unit.node.pods import container, make_pod


def test_format() -> None:
    text = "# c\n\n A = 'one # two'  \nB='l1\nl2'\nA='last'"
    assert parse_env_file(text) == {"A": "last", "B": "l1\nl2"}
    assert parse_env_file("") == {}


@pytest.mark.parametrize("text", ["A=1", 'A="1"', "A='1''2'", "A='1'$B", "A='1", "export A='1'", "word"])
def test_what_the_shell_would_evaluate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_env_file(f"X='1'\n{text}\n")


def test_reading(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "f").write_text("K='v'")
    (tmp_path / "secret").write_text("K='s'")
    (tmp_path / "v" / "out").symlink_to(tmp_path / "secret")
    folders = {"v": tmp_path / "v"}
    assert read_env_files({("v", "f"), ("v", "gone")}, folders) == {("v", "f"): {"K": "v"}, ("v", "gone"): None}
    for wrong in (("v", "out"), ("v", "../secret"), ("w", "f")):
        with pytest.raises(VolumeError):
            read_env_files({wrong}, folders)


def test_variables() -> None:
    def entry(name: str, key: str, **more: bool) -> dict[str, object]:
        return {"name": name, "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "f", "key": key, **more}}}

    one = container("c", env=[entry("A", "K"), entry("B", "none", optional=True), {"name": "C", "value": "$(A)"}])
    assert file_references(one) == {("v", "f")}
    given = {"services": [], "maps": {}, "secrets": {}, "node": {}, "allocatable": {}}
    assert build_env(make_pod(), one, **given, files={("v", "f"): {"K": "v"}}) == {"A": "v", "C": "v"}  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='environment variable key "K" not found in file "f"'):
        build_env(make_pod(), one, **given, files={("v", "f"): None})  # type: ignore[arg-type]
