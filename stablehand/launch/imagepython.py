"""The running interpreter as files of an image: binary, standard library, this package, what it depends on, libraries.

Copied rather than installed, so that versions always agree and nothing is downloaded.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import stablehand

# What only the API server, the node and the DNS server need.
_NOT_NEEDED = {"kubernetes-validate", "grpcio", "protobuf", "dnslib"}
_NOT_OF_STDLIB = {"site-packages", "dist-packages", "test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3"}
_REQUIRES = re.compile(r"^[A-Za-z0-9._-]+")


def python_files() -> Iterator[tuple[str, Path]]:
    """(path in the image, file here), every one a regular file or to be read as one."""
    files: dict[str, Path] = {}
    stdlib = Path(sysconfig.get_path("stdlib"))
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    binary = Path(sys.executable).resolve()
    files[f"opt/python/bin/{version}"] = binary
    files["opt/python/bin/python3"] = binary
    for path in _below(stdlib):
        relative = path.relative_to(stdlib)
        first = relative.parts[0]
        if first not in _NOT_OF_STDLIB and not first.startswith("config-") and path.suffix != ".a":
            files[f"opt/python/lib/{version}/{relative}"] = path
    package = Path(stablehand.__file__).parent
    for path in _below(package):
        files[f"opt/stablehand/stablehand/{path.relative_to(package)}"] = path
    for name in _dependencies("stablehand"):
        distribution = importlib.metadata.distribution(name)
        for entry in distribution.files or ():
            path = Path(str(distribution.locate_file(entry)))
            if ".." not in entry.parts and path.is_file():
                files[f"opt/stablehand/{entry}"] = path
    native = [p for p in files.values() if ".so" in p.suffixes] + [binary]
    for library in _libraries(native):
        files.setdefault(str(library).lstrip("/"), library)
    # gettarinfo would keep links as links; what they point at is wanted.
    for inside, outside in files.items():
        yield inside, outside.resolve()


def _below(folder: Path) -> Iterator[Path]:
    tag = sys.implementation.cache_tag
    for path in folder.rglob("*"):
        if path.is_file() and (path.suffix != ".pyc" or path.name.endswith(f".{tag}.pyc")):
            yield path


def _dependencies(name: str) -> set[str]:
    """The distributions that this one needs, itself left out."""
    found: set[str] = set()
    queue = [name]
    while queue:
        try:
            needed = importlib.metadata.requires(queue.pop()) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in needed:
            match = _REQUIRES.match(requirement)
            other = match[0].lower() if match else ""
            if not other or "extra ==" in requirement or other in found or other in _NOT_NEEDED:
                continue
            try:
                importlib.metadata.distribution(other)
            except importlib.metadata.PackageNotFoundError:
                continue  # for another version of Python
            found.add(other)
            queue.append(other)
    return found


def _libraries(files: list[Path]) -> set[Path]:
    """The shared libraries that these files load from outside their own folders, the loader included."""
    done = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    own = {str(f.resolve()) for f in files}
    return {Path(m[1]) for m in re.finditer(r"(/\S+) \(0x", done.stdout) if str(Path(m[1]).resolve()) not in own}
