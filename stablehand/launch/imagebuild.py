"""Builds images from Debian packages, or from the running interpreter, as OCI archives: no registry, no daemon.

What goes into them is `imagerecipes`'; importing them is the node's.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stablehand.launch.errors import LaunchError
from stablehand.launch.imagepython import python_files
from stablehand.launch.imagerecipes import RECIPES, Recipe

_HOOK = "/usr/share/mmdebstrap/hooks/merged-usr"
_APPLETS = (
    "[ [[ arch ash awk base64 basename cat chmod chown chroot clear cmp cp cut date dd df dirname dmesg du echo "
    "egrep env expr false fgrep find fold free getopt grep groups gunzip gzip head hexdump hostname id ifconfig ip "
    "kill killall less ln ls md5sum mkdir mkfifo mknod mktemp more mount mv nc netstat nslookup od pidof ping "
    "printenv printf ps pwd readlink realpath rm rmdir route sed seq sh sha256sum sleep sort stat strings stty sync "
    "tail tar tee telnet test time timeout top touch tr traceroute true tty umount uname uniq uptime vi watch wc "
    "wget which who whoami xargs xxd yes zcat"
)
_LEFT_OUT = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/info/", "var/cache/", "dev/")


def build(name: str, out: Path) -> Path:
    """Makes <out>/<name>.tar unless it is there; answers its path. Raises LaunchError."""
    recipe = RECIPES.get(name)
    if recipe is None:
        raise LaunchError(f"no recipe for an image {name!r}: there are {', '.join(RECIPES)}")
    target = out / f"{name}.tar"
    if target.exists():
        return target
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=out) as work:
            root = _packages(recipe, Path(work)) if recipe.packages else None
            layer, diff_id = _layer(recipe, root, Path(work))
            finished = _archive(recipe, layer, diff_id, Path(work))
            os.replace(finished, target)
    except OSError as e:
        raise LaunchError(f"cannot build the image {name} in {out}: {e}") from e
    return target


def _packages(recipe: Recipe, work: Path) -> Path:
    """The packages and what they depend on, unpacked but not configured, as a tar file."""
    program = shutil.which("mmdebstrap")
    if program is None:
        raise LaunchError("building images needs mmdebstrap: apt-get install mmdebstrap")
    root = work / "root.tar"
    command = [program, "--quiet", "--variant=extract", f"--include={','.join(recipe.packages)}"]
    if os.geteuid() == 0:
        command.append("--mode=root")
    if recipe.merged_usr:
        command.append(f"--hook-dir={_HOOK}")
    done = subprocess.run([*command, "bookworm", str(root)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()[-1:]
        raise LaunchError(f"mmdebstrap failed: {'; '.join(lines[:2])}")
    return root


class _Digest(io.RawIOBase):
    """Writes on, and hashes what passes."""

    def __init__(self, below: io.BufferedIOBase) -> None:
        self._below = below
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.sha256.update(data)
        return self._below.write(data)


def _layer(recipe: Recipe, root: Path | None, work: Path) -> tuple[Path, str]:
    """The one layer, gzipped, and the digest of what it is uncompressed."""
    path = work / "layer.tar.gz"
    with open(path, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed:
        digest = _Digest(packed)
        with tarfile.open(fileobj=digest, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20) as layer:
            if root is not None:
                _copy_root(layer, root, set(recipe.files))
            for member, data in _own(recipe):
                layer.addfile(member, data)
            if recipe.python:
                for inside, outside in python_files():
                    member = layer.gettarinfo(str(outside), inside)
                    member.uid = member.gid = 0
                    member.uname = member.gname = ""
                    with open(outside, "rb") as data_file:
                        layer.addfile(member, data_file)
    return path, "sha256:" + digest.sha256.hexdigest()


def _copy_root(layer: tarfile.TarFile, root: Path, replaced: set[str]) -> None:
    with tarfile.open(root, "r|") as source:
        for member in source:
            member.name = member.name.removeprefix("./")
            if member.name in replaced or member.name.startswith(_LEFT_OUT) or member.isdev():
                continue
            if member.islnk():
                member.linkname = member.linkname.removeprefix("./")
            member.pax_headers = {}
            layer.addfile(member, source.extractfile(member) if member.isreg() else None)


def _own(recipe: Recipe) -> Iterator[tuple[tarfile.TarInfo, io.BytesIO | None]]:
    """The recipe's own folders, files and links."""
    for name in recipe.folders:
        member = tarfile.TarInfo(name)
        member.type = tarfile.DIRTYPE
        member.mode = 0o1777 if name == "tmp" else 0o755
        yield member, None
    for name, text in recipe.files.items():
        data = text.encode()
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o755 if "/bin/" in name else 0o644
        yield member, io.BytesIO(data)
    links = dict(recipe.links)
    if recipe.busybox:
        links.update({f"bin/{applet}": "busybox" for applet in _APPLETS.split() if applet != "busybox"})
    for name, target in links.items():
        member = tarfile.TarInfo(name)
        member.type = tarfile.SYMTYPE
        member.linkname = target
        member.mode = 0o777
        yield member, None


def _archive(recipe: Recipe, layer: Path, diff_id: str, work: Path) -> Path:
    """The OCI archive around the layer, tagged with the recipe's reference."""
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    blobs: dict[str, bytes] = {}

    def blob(document: dict[str, object], media_type: str) -> dict[str, object]:
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    config = blob(
        {
            "architecture": arch,
            "os": "linux",
            "config": dict(recipe.config),
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created_by": "stablehand image build"}],
        },
        "application/vnd.oci.image.config.v1+json",
    )
    with open(layer, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    manifest = blob(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": f"sha256:{digest}",
                    "size": layer.stat().st_size,
                }
            ],
        },
        "application/vnd.oci.image.manifest.v1+json",
    )
    manifest["platform"] = {"os": "linux", "architecture": arch}
    manifest["annotations"] = {
        "io.containerd.image.name": recipe.reference,
        "org.opencontainers.image.ref.name": recipe.reference.rpartition(":")[2],
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]}
    path = work / "image.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in (
            ("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
            ("index.json", json.dumps(index).encode()),
            *((f"blobs/sha256/{name}", data) for name, data in blobs.items()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        archive.add(layer, f"blobs/sha256/{digest}")
    return path
