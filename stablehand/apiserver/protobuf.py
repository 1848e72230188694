"""Kubernetes' protobuf form of objects: reads request bodies, and writes answers for clients that take nothing else.

Go clients (kubectl's typed commands, controllers, kubelets) send it for every built-in kind. They all take JSON back,
which is what is stored, so JSON is what they get (`wanted` tells the others). Messages and field numbers are in
protobuf_fields.json, made by scripts/protobuf_fields.py, which also explains the types' letters; custom resources
have no protobuf form. Field numbers that the table does not hold are skipped, as upstream skips a newer client's.
"""

from __future__ import annotations

import base64
import functools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from stablehand.apiserver import errors
from stablehand.machinery.times import format_micro_time, format_time, parse_time
from stablehand.machinery.types import Obj

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_JSON = ("application/json", "application/yaml", "*/*", "application/*")
_SCHEMA = "apiextensions.v1.JSONSchemaProps"
_ZERO: dict[str, Any] = {"s": "", "i": 0, "b": False, "d": 0.0, "y": ""}


class _Field(NamedTuple):
    number: int
    name: str  # "" for a message whose fields are in line
    shape: str  # "" one value, "*" a list, "%" a map of strings, "+" a message around a list; "%+" as in ExtraValue
    code: str
    pointer: bool  # zero and absent differ
    always: bool  # never omitted in JSON


@functools.cache
def _file() -> Obj:
    return orjson.loads((Path(__file__).with_name("protobuf_fields.json")).read_bytes())


@functools.cache
def _table(message: str) -> dict[int, _Field]:
    out = {}
    for entry in _file()["messages"][message].split():
        number, name, code = entry.split(":", 2)
        bare = code.rstrip("?!")
        kind = bare.lstrip("*%+")
        shape = bare[: len(bare) - len(kind)]
        out[int(number)] = _Field(int(number), name, shape, kind, code.endswith("?"), code.endswith("!"))
    return out


def _message_of(api_version: str, kind: str) -> str | None:
    found: str | None = _file()["roots"].get(f"{api_version}/{kind}")
    if found is None and f"meta.v1.{kind}" in _file()["messages"]:
        return f"meta.v1.{kind}"  # DeleteOptions and Status go by every group's name
    return found


# --- reading ---------------------------------------------------------------------------------------------------------


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of every field; values are integers or bytes. Raises IndexError, ValueError."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _read_varint(data, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, at = _read_varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(data):
            raise IndexError
        yield tag >> 3, data[at : at + size]
        at += size


def _signed(value: int | bytes) -> int:
    assert isinstance(value, int)
    return value - (1 << 64) if value >= 1 << 63 else value


def _moment(data: bytes) -> float | None:
    """Unix seconds of a Timestamp; None for Go's zero time, which is sent without fields."""
    parts = dict(_fields(data))
    if 1 not in parts:
        return None
    return _signed(parts[1]) + _signed(parts.get(2, 0)) / 1e9


def _value(code: str, value: int | bytes) -> Any:
    """One value of a type, as in JSON."""
    if code == "i":
        return _signed(value)
    if code == "b":
        return bool(value)
    assert isinstance(value, bytes)
    if code == "s":
        return value.decode()
    if code == "y":
        return base64.b64encode(value).decode()
    if code == "d":
        return struct.unpack("<d", value)[0]
    if code in ("t", "u"):
        moment = _moment(value)
        return None if moment is None else (format_time if code == "t" else format_micro_time)(moment)
    if code == "Q":
        return next((_value("s", v) for n, v in _fields(value) if n == 1), "0")
    if code == "I":
        parts = dict(_fields(value))
        return _value("s", parts.get(3, b"")) if parts.get(1) == 1 else _signed(parts.get(2, 0))
    if code in ("R", "F"):
        raw = next((v for n, v in _fields(value) if n == 1), b"")
        return orjson.loads(raw) if raw else None  # type: ignore[arg-type]
    if code in ("A", "X", "B"):
        return _schema_or(code, value)
    return _message(code, value)


def _schema_or(code: str, data: bytes) -> Any:
    """JSONSchemaPropsOrArray (A), OrBool (B), OrStringArray (X): a schema if there is one, else the other thing."""
    many: list[Any] = []
    allows = False
    for number, value in _fields(data):
        if code == "B" and number == 1:
            allows = bool(value)
        elif number == (2 if code == "B" else 1):
            return _message(_SCHEMA, value)  # type: ignore[arg-type]
        elif number == 2:
            many.append(_value("s" if code == "X" else _SCHEMA, value))
    return allows if code == "B" else many


def _message(name: str, data: bytes) -> Obj:
    table = _table(name)
    out: Obj = {}
    for number, value in _fields(data):
        field = table.get(number)
        if field is None:
            continue
        if not field.name:
            out.update(_message(field.code, value))  # type: ignore[arg-type]
        elif field.shape[:1] == "%":
            pair = dict(_fields(value))  # type: ignore[arg-type]
            code = field.code
            if field.shape == "%+":
                item: Any = [_value(code, v) for n, v in _fields(pair.get(2, b"")) if n == 1]  # type: ignore[arg-type]
            else:
                item = _value(code, pair.get(2, 0 if code in "ib" else b""))
            out.setdefault(field.name, {})[_value("s", pair.get(1, b""))] = item
        elif field.shape == "+":
            out[field.name] = [_value(field.code, v) for n, v in _fields(value) if n == 1]  # type: ignore[arg-type]
        elif field.shape == "*":
            out.setdefault(field.name, []).append(_value(field.code, value))
        else:
            item = _value(field.code, value)
            if item is None or (not field.pointer and not field.always and item == _ZERO.get(field.code)):
                continue  # Go always sends these; its JSON leaves them out
            out[field.name] = item
    return out


def decode(raw: bytes) -> Obj:
    """The object in a runtime.Unknown envelope. Raises StatusError 400, or 415 for a kind without a protobuf form."""
    if not raw.startswith(_MAGIC):
        raise errors.bad_request("the body is not in the Kubernetes protobuf form")
    try:
        envelope = dict(_fields(raw[len(_MAGIC) :]))
        kind_of = dict(_fields(envelope.get(1, b"")))  # type: ignore[arg-type]
        api_version, kind = _value("s", kind_of.get(1, b"")), _value("s", kind_of.get(2, b""))
        name = _message_of(api_version, kind)
        if name is None:
            raise errors.unsupported_media_type(CONTENT_TYPE, "application/json, application/yaml")
        body = envelope.get(2, b"")
        return {"kind": kind, "apiVersion": api_version, **_message(name, body)}  # type: ignore[arg-type]
    except (IndexError, AssertionError, TypeError, ValueError, struct.error) as e:
        raise errors.bad_request("the protobuf body is malformed") from e


# --- writing ---------------------------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _sized(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _timestamp(moment: float) -> bytes:
    whole = int(moment // 1)
    return _number(1, whole) + _number(2, round((moment - whole) * 1e6) * 1000)


def _write(number: int, code: str, value: Any) -> bytes:
    """One value of a type as a field."""
    if code in ("i", "b"):
        return _number(number, int(value))
    if code == "s":
        return _sized(number, str(value).encode())
    if code == "y":
        return _sized(number, base64.b64decode(value))
    if code == "d":
        return _varint(number << 3 | 1) + struct.pack("<d", value)
    if code in ("t", "u"):
        return _sized(number, _timestamp(parse_time(value)))
    if code == "Q":
        return _sized(number, _sized(1, str(value).encode()))
    if code == "I":
        text = isinstance(value, str)
        return _sized(number, _number(1, 1) + _sized(3, value.encode()) if text else _number(1, 0) + _number(2, value))
    if code in ("R", "F"):
        return _sized(number, _sized(1, orjson.dumps(value)))
    if code in ("A", "X", "B"):
        if isinstance(value, dict):
            schema = _sized(2 if code == "B" else 1, _body(_SCHEMA, value))
            return _sized(number, _number(1, 1) + schema if code == "B" else schema)
        if code == "B":
            return _sized(number, _number(1, int(value)))
        return _sized(number, b"".join(_write(2, "s" if code == "X" else _SCHEMA, v) for v in value))
    return _sized(number, _body(code, value))


def _body(name: str, obj: Obj) -> bytes:
    out = []
    for field in _table(name).values():
        number, code = field.number, field.code
        if not field.name:
            inner = _body(code, obj)
            if inner:
                out.append(_sized(number, inner))
            continue
        value = obj.get(field.name)
        if value is None:
            continue
        if field.shape == "*":
            out.extend(_write(number, code, v) for v in value)
        elif field.shape == "+":
            out.append(_sized(number, b"".join(_write(1, code, v) for v in value)))
        elif field.shape == "%+":
            for key, items in value.items():
                wrapped = b"".join(_write(1, code, v) for v in items)
                out.append(_sized(number, _sized(1, key.encode()) + _sized(2, wrapped)))
        elif field.shape == "%":
            out.extend(_sized(number, _sized(1, k.encode()) + _write(2, code, v)) for k, v in value.items())
        else:
            out.append(_write(number, code, value))
    return b"".join(out)


def encode(obj: Obj) -> bytes | None:
    """The object in its envelope; None for a kind that has no protobuf form."""
    version = obj.get("apiVersion") or "v1"  # APIVersions has none
    name = _message_of(version, obj.get("kind", ""))
    if name is None:
        return None
    kind_of = _sized(1, version.encode()) + _sized(2, obj["kind"].encode())
    return _MAGIC + _sized(1, kind_of) + _sized(2, _body(name, obj)) + _sized(3, b"") + _sized(4, b"")


def frame(line: bytes) -> bytes:
    """A watch event's JSON as a frame of a protobuf watch: its size in four bytes, then the message."""
    event = orjson.loads(line)
    message = _sized(1, event["type"].encode()) + _sized(2, _sized(1, encode(event["object"]) or b""))
    return struct.pack(">I", len(message)) + message


def wanted(accept: str) -> bool:
    """Whether an Accept header takes protobuf and nothing that is cheaper for us."""
    if CONTENT_TYPE not in accept:
        return False
    return not any(clause.partition(";")[0].strip() in _JSON for clause in accept.split(","))
