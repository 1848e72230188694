"""Merging the cluster into a user's own kubeconfig, as `kubectl config` would: other entries stay as they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from stablehand.launch.errors import LaunchError

NAME = "stablehand"


def users_file(environment: str | None, home: Path) -> Path:
    """The file that kubectl writes to: of $KUBECONFIG's files the first that exists, else its last; else
    ~/.kube/config."""
    files = [Path(part) for part in (environment or "").split(":") if part]
    if not files:
        return home / ".kube" / "config"
    return next((file for file in files if file.exists()), files[-1])


def merged(theirs: Any, ours: dict[str, Any], where: str) -> dict[str, Any]:
    """`theirs` with cluster, user and context "stablehand" of `ours`, made the current one. Raises LaunchError."""
    if theirs is None:
        theirs = {}
    if not isinstance(theirs, dict) or theirs.get("kind", "Config") != "Config":
        raise LaunchError(f"{where} is no kubeconfig: move it away, or set KUBECONFIG to another file")
    out = {"apiVersion": "v1", "kind": "Config", **theirs}
    cluster, user = ours["clusters"][0]["cluster"], ours["users"][0]["user"]
    context = {"cluster": NAME, "user": NAME}
    for plural, singular, value in (("clusters", "cluster", cluster), ("users", "user", user)):
        out[plural] = _with(out.get(plural), singular, value, plural, where)
    old = next((e for e in out.get("contexts") or () if isinstance(e, dict) and e.get("name") == NAME), {})
    if namespace := (old.get("context") or {}).get("namespace"):
        context["namespace"] = namespace  # set by the user; a later merge does not take it back
    out["contexts"] = _with(out.get("contexts"), "context", context, "contexts", where)
    out["current-context"] = NAME
    return out


def _with(entries: Any, singular: str, value: dict[str, Any], plural: str, where: str) -> list[Any]:
    """The list with the entry "stablehand" set, in its old place where it has one."""
    if entries is None:
        entries = []
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "name" in e for e in entries):
        raise LaunchError(f"{where}: {plural} is no list of named entries: mend it, or set KUBECONFIG to another file")
    entry = {"name": NAME, singular: value}
    if any(e["name"] == NAME for e in entries):
        return [entry if e["name"] == NAME else e for e in entries]
    return [*entries, entry]


def merge_into(target: Path, ours: dict[str, Any]) -> None:
    """Merges and writes: whole or not at all, readable by its owner alone. A symlink stays one. Raises LaunchError."""
    target = target.resolve() if target.is_symlink() else target
    try:
        theirs = yaml.safe_load(target.read_bytes()) if target.exists() else None
    except yaml.YAMLError as e:
        at = getattr(e, "problem_mark", None)
        line = f" (line {at.line + 1})" if at is not None else ""
        raise LaunchError(f"{target} is not YAML{line}: mend it or move it away; it is left as it is") from e
    except OSError as e:
        raise LaunchError(f"cannot read {target}: {e.strerror}") from e
    text = yaml.safe_dump(merged(theirs, ours, str(target)), sort_keys=False).encode()
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                if target.exists():
                    owner = target.stat()
                    os.fchown(fd, owner.st_uid, owner.st_gid)  # sudo must not take a user's file away from them
                file.write(text)
                file.flush()
                os.fsync(fd)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as e:
        raise LaunchError(f"cannot write {target}: {e.strerror}") from e
