"""Merging into a user's kubeconfig."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from stablehand.launch.errors import LaunchError
from stablehand.launch.usersconfig import merge_into, merged, users_file

OURS: dict[str, Any] = {
    "clusters": [{"name": "stablehand", "cluster": {"server": "https://127.0.0.1:6443"}}],
    "users": [{"name": "admin", "user": {"client-key-data": "a"}}],
    "contexts": [{"name": "stablehand", "context": {"cluster": "stablehand", "user": "admin"}}],
    "current-context": "stablehand",
}
THEIRS = {
    "apiVersion": "v1",
    "kind": "Config",
    "preferences": {"colors": True},
    "clusters": [{"name": "work", "cluster": {"server": "https://work"}}],
    "users": [{"name": "admin", "user": {"token": "theirs"}}],
    "contexts": [{"name": "work", "context": {"cluster": "work", "user": "admin"}}],
    "current-context": "work",
}


def test_other_entries_stay_and_ours_become_current(tmp_path: Path) -> None:
    target = tmp_path / "config"
    target.write_text(yaml.safe_dump(THEIRS))
    target.chmod(0o644)
    merge_into(target, OURS)
    got = yaml.safe_load(target.read_text())
    assert got["clusters"][0] == THEIRS["clusters"][0]  # type: ignore[index]
    assert got["users"][0] == THEIRS["users"][0]  # type: ignore[index]
    assert got["contexts"][0] == THEIRS["contexts"][0]  # type: ignore[index]
    assert got["preferences"] == {"colors": True}
    assert [e["name"] for e in got["users"]] == ["admin", "stablehand"]
    assert got["contexts"][1] == {"name": "stablehand", "context": {"cluster": "stablehand", "user": "stablehand"}}
    assert got["current-context"] == "stablehand"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["config"]


def test_merging_again_replaces_in_place_and_keeps_the_namespace() -> None:
    once = merged(THEIRS, OURS, "x")
    once["contexts"][1]["context"]["namespace"] = "shop"
    changed = {**OURS, "users": [{"name": "admin", "user": {"client-key-data": "b"}}]}
    twice = merged(once, changed, "x")
    assert len(twice["users"]) == 2
    assert twice["users"][1]["user"] == {"client-key-data": "b"}
    assert twice["contexts"][1]["context"]["namespace"] == "shop"


def test_a_file_that_is_missing_is_made(tmp_path: Path) -> None:
    target = tmp_path / "home" / ".kube" / "config"
    merge_into(target, OURS)
    assert yaml.safe_load(target.read_text())["kind"] == "Config"
    assert stat.S_IMODE(target.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("text", ["- a list", "{not yaml", "clusters: 3", "kind: Pod", "users: [3]"])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, text: str) -> None:
    target = tmp_path / "config"
    target.write_text(text)
    with pytest.raises(LaunchError, match=str(target)):
        merge_into(target, OURS)
    assert target.read_text() == text


def test_a_symlink_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "config"
    real.write_text(yaml.safe_dump(THEIRS))
    link.symlink_to(real)
    merge_into(link, OURS)
    assert link.is_symlink()
    assert yaml.safe_load(real.read_text())["current-context"] == "stablehand"


def test_which_file(tmp_path: Path) -> None:
    home, there = tmp_path / "home", tmp_path / "there"
    assert users_file(None, home) == home / ".kube" / "config"
    assert users_file(f"{tmp_path}/a:{tmp_path}/b", home) == tmp_path / "b"
    there.touch()
    assert users_file(f"{tmp_path}/a:{there}:{tmp_path}/b", home) == there
