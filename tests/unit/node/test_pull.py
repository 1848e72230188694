"""When an image is pulled, and when what is on the machine is enough."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from stablehand.node.cri.client import CriError, Runtime
from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.pull import Puller, PullError

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
