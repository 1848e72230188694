"""ControllerRevisions: upstream's hash recipe, history, and templates that mean the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stablehand.machinery import revisions
from stablehand.machinery.hashing import ALPHABET, fnv1_32, fnv1a_32, safe_encode
from stablehand.machinery.podtemplates import equal_templates, go_json, template_hash
from stablehand.machinery.types import copy_object

TEMPLATE: dict[str, Any] = {
    "metadata": {"annotations": {"test": "value"}, "labels": {"app": "foo"}},
    "spec": {
        "containers": [
            {
                "image": "test",
                "imagePullPolicy": "Always",
                "name": "test",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    },
}


def owner(**metadata: Any) -> dict[str, Any]:
    base = {"name": "test", "namespace": "default", "uid": "u", **metadata}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": base, "spec": {"template": TEMPLATE}}


def test_known_hash() -> None:
    """The name that Kubernetes 1.34 gives this set's revision."""
    revision = revisions.new_revision(owner(annotations={"a": "b"}), TEMPLATE, 2, 0)
    assert revision["metadata"]["name"] == "test-776999688b"
    assert revision["metadata"]["labels"] == {"app": "foo", "controller.kubernetes.io/hash": "776999688b"}
    assert revision["metadata"]["annotations"] == {"a": "b"}
    assert revisions.template_of(revision) == TEMPLATE


def test_fnv_vectors() -> None:
    assert (fnv1_32(b""), fnv1_32(b"a"), fnv1_32(b"foobar")) == (0x811C9DC5, 0x050C5D7E, 0x31F0B262)
    assert (fnv1a_32(b"a"), fnv1a_32(b"foobar")) == (0xE40C292C, 0xBF9CF968)


@given(st.text())
def test_json_is_escaped_as_go_does(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    raw = go_json({"k": text})
    assert not any(c in raw for c in (b"<", b">", b"&", b"\xe2\x80\xa8", b"\xe2\x80\xa9"))


@given(data=st.binary(), count=st.integers(0, 1000))
def test_recipe(data: bytes, count: int) -> None:
    hashed = revisions.revision_hash(data, count)
    assert hashed == safe_encode(str(fnv1_32(data + str(count).encode())))
    assert set(hashed) <= set(ALPHABET)


def test_long_names_are_cut() -> None:
    assert revisions.revision_name("x" * 300, "h") == "x" * 223 + "-h"


def test_defaults_do_not_matter() -> None:
    bare = {"metadata": TEMPLATE["metadata"], "spec": {"containers": [{"name": "test", "image": "test"}]}}
    assert equal_templates(bare, TEMPLATE)
    other = copy_object(bare)
    other["spec"]["containers"][0]["image"] = "test:2"
    assert not equal_templates(other, TEMPLATE)
    assert template_hash(bare, None) == template_hash(TEMPLATE, None) != template_hash(TEMPLATE, 1)


@given(numbers=st.lists(st.integers(1, 50), unique=True, max_size=12), limit=st.integers(-1, 6), keep=st.integers(0, 5))
def test_truncation(numbers: list[int], limit: int, keep: int) -> None:
    history = [{"metadata": {"name": f"r{n}"}, "revision": n} for n in numbers]
    live = {f"r{n}" for n in sorted(numbers)[:keep]}
    gone = revisions.expired(history, live, limit)
    left = [r for r in history if r not in gone]
    assert not any(r["metadata"]["name"] in live for r in gone)
    if limit < 0:
        assert not gone
        return
    dead_left = [r["revision"] for r in left if r["metadata"]["name"] not in live]
    assert len(dead_left) <= limit
    if gone and dead_left:
        assert max(r["revision"] for r in gone) < min(dead_left)
