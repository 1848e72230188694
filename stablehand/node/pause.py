"""The sandbox ("pause") image, made from nothing: a static ELF written byte by byte, inside an OCI archive.

Pods need it before any registry can be asked, and no compiler may be needed. The program blocks SIGCHLD, SIGTERM
and SIGINT and waits for them: it reaps children (it is pid 1 where a pod shares its pid namespace) and exits on the
other two. Importing the archive is images' business.
"""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from collections.abc import Callable

import orjson

SIGINT, SIGTERM, SIGCHLD = 2, 15, 17
_SIGNALS = (1 << (SIGINT - 1)) | (1 << (SIGTERM - 1)) | (1 << (SIGCHLD - 1))
_BASE = 0x400000
_HEADERS = 64 + 56


class _Assembler:
    """Bytes with labels; `fixups` patch the distances once every label is known."""

    def __init__(self) -> None:
        self.code = bytearray()
        self.labels: dict[str, int] = {}
        self.fixups: list[Callable[[], None]] = []

    def label(self, name: str) -> None:
        self.labels[name] = len(self.code)

    def finish(self) -> bytes:
        for fix in self.fixups:
            fix()
        return bytes(self.code)


def _amd64() -> bytes:
    asm = _Assembler()

    def emit(text: str) -> None:
        asm.code += bytes.fromhex(text)

    def jump(opcode: str, label: str) -> None:
        emit(opcode + "00")
        at = len(asm.code)
        asm.fixups.append(lambda: struct.pack_into("b", asm.code, at - 1, asm.labels[label] - at))

    def lea(opcode: str, label: str) -> None:
        emit(opcode + "00000000")
        at = len(asm.code)
        asm.fixups.append(lambda: struct.pack_into("<i", asm.code, at - 4, asm.labels[label] - at))

    emit("b80e000000 31ff")  # mov eax, rt_sigprocmask; xor edi, edi (SIG_BLOCK)
    lea("488d35", "signals")  # lea rsi, [rip+signals]
    emit("31d2 41ba08000000 0f05")  # xor edx, edx; mov r10d, 8; syscall
    asm.label("wait")
    emit("b880000000")  # mov eax, rt_sigtimedwait
    lea("488d3d", "signals")  # lea rdi, [rip+signals]
    emit("31f6 31d2 41ba08000000 0f05")  # xor esi, esi; xor edx, edx; mov r10d, 8; syscall
    emit("83f811")  # cmp eax, SIGCHLD
    jump("74", "reap")
    emit("83f80f")  # cmp eax, SIGTERM
    jump("74", "exit")
    emit("83f802")  # cmp eax, SIGINT
    jump("74", "exit")
    jump("eb", "wait")
    asm.label("reap")
    emit("b83d000000 48c7c7ffffffff 31f6 ba01000000 4531d2 0f05 85c0")  # wait4(-1, 0, WNOHANG, 0); test eax, eax
    jump("7f", "reap")
    jump("eb", "wait")
    asm.label("exit")
    emit("b8e7000000 31ff 0f05")  # exit_group(0)
    asm.label("signals")
    asm.code += struct.pack("<Q", _SIGNALS)
    return asm.finish()


def _arm64() -> bytes:
    asm = _Assembler()

    def word(value: int) -> None:
        asm.code += struct.pack("<I", value)

    def move(register: int, value: int) -> None:
        word(0xD2800000 | value << 5 | register)

    def patched(label: str, encode: Callable[[int], int]) -> None:
        at = len(asm.code)
        word(0)
        asm.fixups.append(lambda: struct.pack_into("<I", asm.code, at, encode(asm.labels[label] - at)))

    def address(register: int, label: str) -> None:
        patched(label, lambda d: 0x10000000 | (d & 3) << 29 | ((d >> 2) & 0x7FFFF) << 5 | register)

    def branch(label: str, condition: int | None = None) -> None:
        if condition is None:
            patched(label, lambda d: 0x14000000 | (d >> 2) & 0x3FFFFFF)
        else:
            patched(label, lambda d: 0x54000000 | ((d >> 2) & 0x7FFFF) << 5 | condition)

    def call(number: int) -> None:
        move(8, number)
        word(0xD4000001)  # svc 0

    def compare(value: int) -> None:
        word(0x7100001F | value << 10)  # cmp w0, value

    move(0, 0)
    address(1, "signals")
    move(2, 0)
    move(3, 8)
    call(135)  # rt_sigprocmask
    asm.label("wait")
    address(0, "signals")
    move(1, 0)
    move(2, 0)
    move(3, 8)
    call(137)  # rt_sigtimedwait
    compare(SIGCHLD)
    branch("reap", 0)
    compare(SIGTERM)
    branch("exit", 0)
    compare(SIGINT)
    branch("exit", 0)
    branch("wait")
    asm.label("reap")
    word(0x92800000)  # mov x0, -1
    move(1, 0)
    move(2, 1)
    move(3, 0)
    call(260)  # wait4
    compare(0)
    branch("reap", 12)
    branch("wait")
    asm.label("exit")
    move(0, 0)
    call(94)  # exit_group
    if len(asm.code) % 8:
        word(0xD503201F)  # nop
    asm.label("signals")
    asm.code += struct.pack("<Q", _SIGNALS)
    return asm.finish()


_MACHINES: dict[str, tuple[int, Callable[[], bytes]]] = {"amd64": (62, _amd64), "arm64": (183, _arm64)}


def pause_binary(arch: str) -> bytes:
    """A static executable for "amd64" or "arm64". Raises KeyError for others."""
    machine, assemble = _MACHINES[arch]
    code = assemble()
    size = _HEADERS + len(code)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    # One segment, readable and executable: the headers and the code with its constant.
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    return header + segment + code


def _tar(files: list[tuple[str, bytes, int]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data, mode in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pause_archive(reference: str, arch: str) -> bytes:
    """An OCI image archive (tar) holding the pause image under `reference`. The same bytes every time."""
    blobs: list[tuple[str, bytes, int]] = []

    def blob(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs.append((f"blobs/sha256/{digest}", data, 0o444))
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    layer = _tar([("pause", pause_binary(arch), 0o755)])
    layer_descriptor = blob(layer, "application/vnd.oci.image.layer.v1.tar")
    config = {
        "architecture": arch,
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "Env": ["PATH=/"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [layer_descriptor["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(orjson.dumps(config), "application/vnd.oci.image.config.v1+json"),
        "layers": [layer_descriptor],
    }
    descriptor = blob(orjson.dumps(manifest), "application/vnd.oci.image.manifest.v1+json")
    descriptor["annotations"] = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    index = {"schemaVersion": 2, "manifests": [descriptor]}
    return _tar(
        [
            ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o444),
            ("index.json", orjson.dumps(index), 0o444),
            *blobs,
        ]
    )
