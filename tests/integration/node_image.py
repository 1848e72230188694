"""An image for tests of the node, from this machine's own programs: sh, some coreutils, perl for an HTTP server."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

import orjson

from stablehand.node.config import machine_arch

IMAGE = "docker.io/library/testimage:latest"
PROGRAMS = (
    "sh",
    "cat",
    "sleep",
    "ls",
    "env",
    "id",
    "stat",
    "touch",
    "head",
    "true",
    "false",
    "hostname",
    "perl",
    "mkdir",
)
# A server that answers 200 on /, 500 on /bad; its port is the first argument.
HTTPD = r"""
use IO::Socket::INET; $SIG{TERM} = sub { exit 0 };
my $s = IO::Socket::INET->new(LocalPort => $ARGV[0], Listen => 5, ReuseAddr => 1) or die $!;
while (my $c = $s->accept) { my $l = <$c>; my $code = $l =~ m{/bad} ? "500 no" : "200 OK";
print $c "HTTP/1.1 $code\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"; close $c; }
"""


def build(path: Path) -> None:
    """Writes an OCI archive of the image to `path`."""
    layer = io.BytesIO()
    done: set[str] = set()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in ("tmp", "bin", "etc", "proc", "sys", "dev", "data"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(info)

        def add(source: str, target: str) -> None:
            if target not in done:
                done.add(target)
                tar.add(os.path.realpath(source), target.lstrip("/"))

        for program in PROGRAMS:
            found = subprocess.run(["which", program], capture_output=True, text=True, check=True).stdout.strip()
            add(found, f"/bin/{program}")
            listed = subprocess.run(["ldd", os.path.realpath(found)], capture_output=True, text=True).stdout
            for library in re.findall(r"(/\S+) \(0x", listed):
                add(library, library)
        for folder in Path("/usr/lib").glob("*/perl-base"):
            tar.add(folder, str(folder).lstrip("/"))
        data = HTTPD.encode()
        info = tarfile.TarInfo("httpd.pl")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    _archive(path, layer.getvalue())


def _archive(path: Path, layer: bytes) -> None:
    with tarfile.open(path, "w") as tar:

        def put(name: str, data: bytes) -> str:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            return name

        def blob(data: bytes, kind: str) -> dict[str, object]:
            digest = hashlib.sha256(data).hexdigest()
            put(f"blobs/sha256/{digest}", data)
            return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

        layers = [blob(layer, "layer.v1.tar")]
        config = {
            "architecture": machine_arch(),
            "os": "linux",
            "config": {"Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["sh", "-c", "exec sleep 1000"]},
            "rootfs": {"type": "layers", "diff_ids": [layers[0]["digest"]]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob(orjson.dumps(config), "config.v1+json"),
            "layers": layers,
        }
        descriptor = blob(orjson.dumps(manifest), "manifest.v1+json")
        descriptor["annotations"] = {"io.containerd.image.name": IMAGE}
        put("index.json", orjson.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
        put("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
