"""Payload volumes on disk, subPaths, own exports: nothing half-written, nothing outside."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablehand.node.config import NodeConfig
from stablehand.node.volumes.atomic import write_payload
from stablehand.node.volumes.configmap import choose
from stablehand.node.volumes.contract import ClaimError, Context, Host, VolumeError
from stablehand.node.volumes.manager import SetupFailed
from stablehand.node.volumes.nfs import own_export
from stablehand.node.volumes.projected import common_user
from stablehand.node.volumes.subpath import open_inside
from tests.unit.node.fakeapi import FakeApi
from tests.unit.node.pods import make_pod

_FILES = st.dictionaries(
    st.sampled_from(["a", "b", "dir/c", "dir/sub/d", "e"]),
    st.tuples(st.binary(max_size=8), st.sampled_from([0o644, 0o400])),
)


def shown(folder: Path) -> dict[str, bytes]:
    found = {}
    for place, names, files in os.walk(folder, followlinks=True):
        names[:] = [n for n in names if not n.startswith("..")]
        for name in files:
            found[str((Path(place) / name).relative_to(folder))] = (Path(place) / name).read_bytes()
    return found


@given(st.lists(_FILES, min_size=1, max_size=4))
def test_a_folder_shows_the_last_payload_and_nothing_else(payloads: list[dict[str, tuple[bytes, int]]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "v"
        for files in payloads:
            write_payload(folder, files)
            assert shown(folder) == {path: data for path, (data, _) in files.items()}
            assert write_payload(folder, files) is False
            stamps = [n for n in os.listdir(folder) if n.startswith("..2")]
            assert len(stamps) == 1
        for path, (_, mode) in payloads[-1].items():
            assert (folder / path).stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("path", ["../x", "/x", "..data/x", "a/../../x"])
def test_payload_paths_stay_inside(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="invalid path"):
        write_payload(tmp_path / "v", {path: (b"", 0o644)})


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_files_belong_to_whom_they_should(tmp_path: Path) -> None:
    write_payload(tmp_path / "v", {"token": (b"t", 0o600), "other": (b"o", 0o644)}, 2000, {"token": 1000})
    found = {name: (tmp_path / "v" / name).stat() for name in ("token", "other")}
    modes = {name: (info.st_uid, info.st_gid, info.st_mode & 0o777) for name, info in found.items()}
    assert modes == {"token": (1000, 2000, 0o640), "other": (0, 2000, 0o644)}


@pytest.mark.parametrize(
    ("inherited", "users", "expected"),
    [(1, [None, 1], 1), (1, [2, None], None), (None, [3, 3], 3), (None, [None], None)],
)
def test_the_user_that_all_containers_share(
    inherited: int | None, users: list[int | None], expected: int | None
) -> None:
    containers = [{"name": f"c{i}", "securityContext": {"runAsUser": u} if u else {}} for i, u in enumerate(users)]
    assert common_user(make_pod(containers=containers, securityContext={"runAsUser": inherited})) == expected


def test_items_choose_keys() -> None:
    data = {"a": b"1", "b": b"2"}
    assert choose(data, None, 0o644, False) == {"a": (b"1", 0o644), "b": (b"2", 0o644)}
    assert choose(data, [{"key": "a", "path": "x/y", "mode": 0o400}], 0o644, False) == {"x/y": (b"1", 0o400)}
    assert choose(data, [{"key": "no", "path": "x"}], 0o644, False) is None
    assert choose(data, [{"key": "no", "path": "x"}], 0o644, True) == {}


def test_sub_paths_never_lead_out(tmp_path: Path) -> None:
    base, outside = tmp_path / "v", tmp_path / "secret"
    base.mkdir()
    outside.mkdir()
    (base / "link").symlink_to(outside)
    (base / "..data").mkdir()
    (base / "..data" / "f").write_text("x")
    (base / "f").symlink_to("..data/f")
    os.close(open_inside(base, "f", create=False))
    os.close(open_inside(base, "new/deep", create=True))
    assert (base / "new" / "deep").is_dir()
    for path in ("link", "link/x", "../secret", "/etc"):
        with pytest.raises(VolumeError):
            open_inside(base, path, create=True)
    with pytest.raises(FileNotFoundError):
        open_inside(base, "none", create=False)


def context(tmp_path: Path, *exports: str) -> Context:
    config = NodeConfig(client=FakeApi().client(), data_dir=tmp_path, exports=exports)
    host: Any = Host(config.client, config, None, lambda *a: None, lambda pod: {}, dict)  # type: ignore[arg-type]
    return Context(host, make_pod(), "v", tmp_path / "mnt")


def test_own_exports_are_recognised_and_kept_inside(tmp_path: Path) -> None:
    export = tmp_path / "nfsdata"
    (export / "a").mkdir(parents=True)
    (export / "out").symlink_to("/etc")
    here = context(tmp_path, str(export))
    assert own_export(here, "127.0.0.1", str(export)) == export
    assert own_export(here, "localhost", f"{export}/a/") == export / "a"
    assert own_export(here, "192.0.2.200", str(export)) is None
    assert own_export(here, "127.0.0.1", str(tmp_path)) is None
    assert own_export(here, "127.0.0.1", f"{export}/../other") is None
    for path in (f"{export}/out", f"{export}/missing"):
        with pytest.raises(VolumeError):
            own_export(here, "127.0.0.1", path)


def test_failures_read_as_kubelets() -> None:
    failed = SetupFailed({"cfg": VolumeError('configmap "x" not found'), "data": ClaimError("PVC is not bound")})
    assert failed.messages() == [
        'MountVolume.SetUp failed for volume "cfg" : configmap "x" not found',
        "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], failed to process "
        "volumes=[data]: PVC is not bound",
    ]
