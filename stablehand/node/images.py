"""Images on this machine: importing archives (OCI or docker save), the pause image, and what is there.

Imports go through `ctr`, which unpacks too. Pulling is `pull`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stablehand.node.config import PAUSE_IMAGE, NodeConfig, NodeError, machine_arch
from stablehand.node.cri.client import Runtime
from stablehand.node.network import run_program
from stablehand.node.pause import pause_archive

log = logging.getLogger("stablehand.node.images")


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """One image: its id, its names, its size in bytes."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int


def normalize(reference: str) -> str:
    """The full name that an image reference stands for: nginx -> docker.io/library/nginx:latest."""
    name, at, digest = reference.partition("@")
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", name
    if first in ("docker.io", "index.docker.io"):
        first = "docker.io"
        if "/" not in rest:
            rest = "library/" + rest
    if at:
        return f"{first}/{rest.split(':')[0]}@{digest}"
    return f"{first}/{rest}" if ":" in rest.rpartition("/")[2] else f"{first}/{rest}:latest"


async def import_archive(config: NodeConfig, path: Path | str, names: Sequence[str] = ()) -> list[str]:
    """Imports every image of an archive (plain or gzipped tar). Answers the names. Raises NodeError."""
    path = Path(path)
    if not path.exists():
        raise NodeError(f"no such file: {path}")
    stored = await asyncio.get_running_loop().run_in_executor(None, archive_names, path)
    command = ["ctr", "-a", str(config.socket), "-n", "k8s.io", "images", "import", "--local"]
    # 1.6 imports locally always and does not know the flag.
    command.remove("--local")
    if not stored:
        if not names:
            raise NodeError(f"{path} names no image: give the archive a tag, or say --name IMAGE")
        command += ["--base-name", names[0].rpartition(":")[0] or names[0]]
    code, out = await run_program(*command, str(path))
    if code != 0:
        raise NodeError(f"cannot import {path}: {out.splitlines()[-1] if out else 'ctr failed'}")
    imported = [line.split()[1] for line in out.splitlines() if line.startswith("unpacking ")]
    for source in imported[:1]:
        for name in names:
            if normalize(name) != source:
                await tag(config, source, name)
    for name in imported:
        # docker.io/library/… is what CRI looks up; archives are often tagged with the short name.
        if normalize(name) != name and "@" not in name:
            await tag(config, name, name)
    return [*imported, *(normalize(n) for n in names)]


async def tag(config: NodeConfig, source: str, name: str) -> None:
    """Gives an image on this machine another name."""
    base = ("ctr", "-a", str(config.socket), "-n", "k8s.io", "images", "tag", "--force")
    code, out = await run_program(*base, source, normalize(name))
    if code != 0:
        raise NodeError(f"cannot tag {source} as {name}: {out}")


def archive_names(path: Path) -> list[str]:
    """The image names written in an archive; [] when it names none. Raises NodeError for what is no image archive."""
    names: list[str] = []
    kinds = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name not in ("index.json", "manifest.json"):
                    continue
                kinds += 1
                extracted = archive.extractfile(member)
                document = json.load(extracted) if extracted else {}
                if name == "manifest.json":
                    names += [tag for entry in document for tag in entry.get("RepoTags") or ()]
                else:
                    for manifest in document.get("manifests") or ():
                        notes = manifest.get("annotations") or {}
                        full = notes.get("io.containerd.image.name")
                        if full or notes.get("org.opencontainers.image.ref.name"):
                            names.append(full or notes["org.opencontainers.image.ref.name"])
    except (tarfile.TarError, OSError, ValueError, EOFError) as e:
        raise NodeError(f"{path} is no image archive: {e}") from None
    if not kinds:
        raise NodeError(f"{path} is no image archive: it holds neither index.json nor manifest.json")
    return names


async def ensure_pause(config: NodeConfig, runtime: Runtime) -> None:
    """Imports the sandbox image, unless it is there."""
    if await runtime.image(PAUSE_IMAGE) is not None:
        return
    try:
        data = pause_archive(PAUSE_IMAGE, machine_arch())
    except KeyError:
        raise NodeError(f"no sandbox image for this machine ({machine_arch()}): amd64 and arm64 are known") from None
    with tempfile.NamedTemporaryFile(suffix=".tar", dir=config.run_dir) as archive:
        archive.write(data)
        archive.flush()
        await import_archive(config, archive.name)
    await wait_for_image(runtime, PAUSE_IMAGE)


async def wait_for_image(runtime: Runtime, name: str, seconds: float = 5) -> None:
    """CRI hears of imported images by an event of containerd, a moment after `ctr` returns."""
    deadline = asyncio.get_running_loop().time() + seconds
    while await runtime.image(name) is None:
        if asyncio.get_running_loop().time() > deadline:
            raise NodeError(f"image {name} was imported, but containerd does not show it")
        await asyncio.sleep(0.005)


async def import_folder(config: NodeConfig) -> list[str]:
    """Imports the archives of the images folder that are new or changed since last time. Bad ones are logged."""
    folder = config.archives_dir
    if not folder.is_dir():
        return []
    record = config.data_dir / "images-imported.json"
    try:
        known: dict[str, str] = json.loads(record.read_text())
    except (OSError, ValueError):
        known = {}
    imported: list[str] = []
    for path in sorted(p for p in folder.iterdir() if p.name.endswith((".tar", ".tar.gz", ".tgz"))):
        stat = os.stat(path)
        mark = f"{stat.st_size}-{stat.st_mtime_ns}"
        if known.get(path.name) == mark:
            continue
        try:
            imported += await import_archive(config, path)
            known[path.name] = mark
        except NodeError as e:
            log.warning("%s", e)
    with contextlib.suppress(OSError):
        record.write_text(json.dumps(known))
    return imported


async def list_images(runtime: Runtime) -> list[ImageInfo]:
    """All images, the sandbox image included."""
    return [
        ImageInfo(image.id, tuple(image.repo_tags), tuple(image.repo_digests), image.size)
        for image in await runtime.images()
    ]
