"""When an image is pulled, and when what is on the machine is enough."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import cast

import orjson
import pytest

from stablehand.machinery.types import Obj
from stablehand.node.cri.client import CriError, Runtime
from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.pull import Puller, PullError
from stablehand.node.pullrecords import PullRecords

POD = {"metadata": {"uid": "u", "name": "p", "namespace": "default"}}


class Shelf:
    """A runtime without a registry, whose images are put there by hand."""

    def __init__(self) -> None:
        self.images: dict[str, pb.Image] = {}
        self.pulled: list[str] = []

    async def image(self, name: str) -> pb.Image | None:
        return self.images.get(name)

    async def pull(self, name: str, auth: object) -> str:
        self.pulled.append(name)
        raise CriError("UNKNOWN", "no such host")


def ensure(shelf: Shelf, archives: asyncio.Event) -> asyncio.Task[pb.Image]:
    puller = Puller(lambda: cast(Runtime, shelf), archives)
    return asyncio.ensure_future(puller.ensure(POD, {"name": "c", "image": "httpd"}, None, lambda *event: None))


async def test_nothing_is_pulled_while_archives_are_still_imported() -> None:
    shelf, archives = Shelf(), asyncio.Event()
    task = ensure(shelf, archives)
    await asyncio.sleep(0)
    assert not task.done()
    shelf.images["httpd"] = pb.Image(id="sha256:1")
    archives.set()
    assert (await task).id == "sha256:1"
    assert shelf.pulled == []


async def test_what_no_archive_held_is_pulled() -> None:
    shelf, archives = Shelf(), asyncio.Event()
    archives.set()
    with pytest.raises(PullError) as caught:
        await ensure(shelf, archives)
    assert caught.value.reason == "ErrImagePull"
    assert shelf.pulled == ["httpd"]


class Registry(Shelf):
    """One that only lets those in who know the password."""

    async def pull(self, name: str, auth: object) -> str:
        self.pulled.append(name)
        if not isinstance(auth, dict) or auth["password"] != "right":
            raise CriError("UNKNOWN", "401 Unauthorized")
        self.images[name] = pb.Image(id="sha256:1", repo_digests=["r.io/a@sha256:1"])
        return name


def secret(password: str) -> dict[str, object]:
    auths = {"auths": {"r.io": {"username": "u", "password": password}}}
    return {"data": {".dockerconfigjson": base64.b64encode(orjson.dumps(auths)).decode()}}


async def test_an_image_pulled_with_credentials_is_for_those_who_have_them(tmp_path: Path) -> None:
    registry, records = Registry(), tmp_path / "pulls.json"

    async def ask(policy: str, *passwords: str) -> str:
        puller = Puller(lambda: cast(Runtime, registry), None, PullRecords(records))

        async def secrets() -> list[Obj]:
            return [secret(password) for password in passwords]

        wanted = {"name": "c", "image": "r.io/a:1", "imagePullPolicy": policy}
        try:
            return (await puller.ensure(POD, wanted, secrets if passwords else None, lambda *event: None)).id
        except PullError as e:
            return e.reason

    assert await ask("IfNotPresent", "right") == "sha256:1"
    assert await ask("IfNotPresent", "right") == "sha256:1" and len(registry.pulled) == 1
    assert await ask("IfNotPresent") == "ErrImagePull" and await ask("IfNotPresent", "wrong") == "ErrImagePull"
    assert await ask("Never") == "ErrImageNeverPull" and await ask("Never", "right") == "sha256:1"
    assert "right" not in records.read_text()
    registry.images["r.io/a:1"] = pb.Image(id="sha256:imported")
    assert await ask("Never") == "sha256:imported"
