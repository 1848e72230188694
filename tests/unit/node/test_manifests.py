"""Static pods' files."""

from __future__ import annotations

from pathlib import Path

import pytest

from stablehand.node.manifests import MIRROR, ManifestError, read_folder, static_pod

WEB = b'{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [{"name": "c"}]}}'


def test_a_file_becomes_a_mirror_pod_of_the_node() -> None:
    pod = static_pod(WEB, "n1")
    assert (pod["metadata"]["name"], pod["metadata"]["namespace"], pod["spec"]["nodeName"]) == (
        "web-n1",
        "default",
        "n1",
    )
    assert pod["spec"]["tolerations"] == [{"operator": "Exists", "effect": "NoExecute"}]
    notes = pod["metadata"]["annotations"]
    assert (
        notes[MIRROR]
        == notes["kubernetes.io/config.hash"]
        != static_pod(WEB + b" ", "n1")["metadata"]["annotations"][MIRROR]
    )
    assert notes["kubernetes.io/config.source"] == "file"


@pytest.mark.parametrize("data", [b"x: [", b"[]", b"kind: Pod", b"{apiVersion: v1, kind: Pod, metadata: {}}"])
def test_what_is_no_pod(data: bytes) -> None:
    with pytest.raises(ManifestError):
        static_pod(data, "n1")


def test_only_manifests_are_read_and_bad_ones_are_passed_over(tmp_path: Path) -> None:
    assert list(read_folder(tmp_path / "none", "n1")) == []
    for name, data in (("a.yaml", WEB), ("b.json", b"{"), ("c.txt", WEB), (".d.yaml", WEB)):
        (tmp_path / name).write_bytes(data)
    assert [p["metadata"]["name"] for p in read_folder(tmp_path, "n1")] == ["web-n1"]
