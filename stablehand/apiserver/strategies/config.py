"""Config maps, secrets and service accounts."""

from __future__ import annotations

import base64

import orjson

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, forbidden, invalid, required, too_long
from stablehand.machinery.types import Obj

LIMIT = 1024 * 1024
_SET = "field is immutable when `immutable` is set"
_REDACTED = "<secret contents redacted>"


def _frozen(new: Obj, old: Obj, keys: tuple[str, ...]) -> list[FieldError]:
    if not old.get("immutable"):
        return []
    errors = [] if new.get("immutable") else [forbidden("immutable", _SET)]
    for key in keys:
        if (new.get(key) or {}) != (old.get(key) or {}):
            errors.append(forbidden(key, _SET))
    return errors


class ConfigMapStrategy(Strategy):
    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        size = 0
        for key, value in data.items():
            errors.extend(checks.named(key, names.config_key, f"data[{key}]"))
            if key in binary:
                errors.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
            size += len(value)
        for key, value in binary.items():
            errors.extend(checks.named(key, names.config_key, f"binaryData[{key}]"))
            size += len(value) * 3 // 4
        if size > LIMIT // 4 and size + sum(len(v.encode()) - len(v) for v in data.values()) > LIMIT:
            errors.append(too_long("", "", LIMIT))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        return _frozen(new, old, ("data", "binaryData")) + self.validate(new)


# Type -> keys its data must have.
_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_ACCOUNT = "kubernetes.io/service-account.name"


class SecretStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        if not obj.get("type"):
            obj["type"] = "Opaque"
        texts = obj.pop("stringData", None)
        if texts:
            data = obj.setdefault("data", {})
            for key, value in texts.items():
                data[key] = base64.b64encode(value.encode()).decode()

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        data = obj.get("data") or {}
        size = 0
        for key, value in data.items():
            errors.extend(checks.named(key, names.config_key, f"data[{key}]"))
            size += len(value or "") * 3 // 4
        if size > LIMIT:
            errors.append(too_long("data", "", LIMIT))
        kind = obj.get("type") or ""
        if kind == "kubernetes.io/service-account-token":
            if not (obj["metadata"].get("annotations") or {}).get(_ACCOUNT):
                errors.append(required(f"metadata.annotations[{_ACCOUNT}]"))
        elif kind == "kubernetes.io/basic-auth":
            if "username" not in data and "password" not in data:
                errors.append(required("data[username]"))
                errors.append(required("data[password]"))
        for key in _KEYS.get(kind, ()):
            if key not in data:
                errors.append(required(f"data[{key}]"))
            elif key.startswith(".docker"):
                try:
                    orjson.loads(base64.b64decode(data[key] or ""))
                except ValueError:
                    errors.append(invalid(f"data[{key}]", _REDACTED, "invalid character in the JSON document"))
        return errors

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = immutable(new.get("type"), old.get("type"), "type")
        return errors + _frozen(new, old, ("data",)) + self.validate(new)


STRATEGIES = {"configmaps": ConfigMapStrategy, "secrets": SecretStrategy, "serviceaccounts": Strategy}
