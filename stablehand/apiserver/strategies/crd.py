"""CustomResourceDefinitions: defaults, status, what an update may change. What is valid is crdchecks.py's.

Conditions are set by apiserver.custom.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from stablehand.apiserver.strategies.base import Strategy
from stablehand.apiserver.strategies.crdchecks import Tolerance, spec_errors
from stablehand.apiserver.strategies.metadata import immutable
from stablehand.apiserver.strategies.webhookclients import check_bundle
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.fielderrors import FieldError, invalid, required
from stablehand.machinery.openapirules import leniency_for
from stablehand.machinery.structuraldefaults import has_unpruned
from stablehand.machinery.types import Obj

_APPROVED = "api-approved.kubernetes.io"
_APPROVAL = "https://github.com/kubernetes/enhancements/pull/1111"


class DefinitionStrategy(Strategy):
    any_finalizer = True

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        kinds = spec.setdefault("names", {})
        kind = kinds.get("kind") or ""
        if not kinds.get("singular"):
            kinds["singular"] = kind.lower()
        if not kinds.get("listKind") and kind:
            kinds["listKind"] = kind + "List"
        if spec.get("conversion") is None:
            spec["conversion"] = {"strategy": "None"}
        webhook = spec["conversion"].get("webhook") or {}
        service = (webhook.get("clientConfig") or {}).get("service")
        if service is not None:
            service.setdefault("port", 443)
        if spec.get("preserveUnknownFields") is False:
            del spec["preserveUnknownFields"]

    def initial_status(self, obj: Obj) -> None:
        stored = [v.get("name") for v in obj["spec"].get("versions") or () if v.get("storage")]
        accepted = {"plural": "", "kind": ""}
        obj["status"] = {"conditions": [], "acceptedNames": accepted, "storedVersions": stored}

    def prepare_update(self, new: Obj, old: Obj) -> None:
        super().prepare_update(new, old)
        status = dict(old.get("status") or {})
        stored = list(status.get("storedVersions") or [])
        for version in new["spec"].get("versions") or ():
            if version.get("storage") and version.get("name") not in stored:
                stored.append(version.get("name"))
        status["storedVersions"] = stored
        new["status"] = status

    def validate(self, obj: Obj) -> list[FieldError]:
        return [*_name(obj), *spec_errors(obj["spec"], Tolerance())]

    def validate_create(self, obj: Obj) -> list[FieldError]:
        return super().validate_create(obj) + _approval(obj)

    def validate_change(self, new: Obj, old: Obj) -> list[FieldError]:
        errors = spec_errors(new["spec"], _tolerance(new, old))
        names, before = new["spec"].get("names") or {}, old["spec"].get("names") or {}
        if _established(old):
            errors.extend(immutable(new["spec"].get("scope"), old["spec"].get("scope"), "spec.scope"))
            errors.extend(immutable(names.get("kind"), before.get("kind"), "spec.names.kind"))
        errors.extend(immutable(new["spec"].get("group"), old["spec"].get("group"), "spec.group"))
        errors.extend(immutable(names.get("plural"), before.get("plural"), "spec.names.plural"))
        if _approval_state(new) != _approval_state(old):
            errors.extend(_approval(new))
        return errors + _stored_versions(new)


def _name(obj: Obj) -> list[FieldError]:
    name = obj["metadata"].get("name") or ""
    wanted = f"{(obj['spec'].get('names') or {}).get('plural', '')}.{obj['spec'].get('group', '')}"
    if name and name != wanted:
        return [invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')]
    return []


def _established(crd: Obj) -> bool:
    return (get_condition(crd.get("status"), "Established") or {}).get("status") == "True"


def _tolerance(new: Obj, old: Obj) -> Tolerance:
    """What the stored definition has already, and an update may keep."""
    before = {v.get("name"): (v.get("schema") or {}).get("openAPIV3Schema") for v in old["spec"].get("versions") or ()}
    unchanged = frozenset(
        v["name"]
        for v in new["spec"].get("versions") or ()
        if v.get("name") in before and (v.get("schema") or {}).get("openAPIV3Schema") == before[v["name"]]
    )
    schemas = [schema for schema in before.values() if schema is not None]
    webhook = (old["spec"].get("conversion") or {}).get("webhook") or {}
    reviews = webhook.get("conversionReviewVersions") or ()
    bundle = (webhook.get("clientConfig") or {}).get("caBundle")
    return Tolerance(
        leniency_for(schemas),
        any(map(has_unpruned, schemas)),
        unchanged,
        bool(reviews) and not {"v1", "v1beta1"} & set(reviews),
        not _established(old) or bool(bundle and check_bundle(bundle, "")),
    )


def _stored_versions(crd: Obj) -> list[FieldError]:
    """Objects are stored in these versions, so they stay."""
    path, stored = "status.storedVersions", (crd.get("status") or {}).get("storedVersions") or []
    if not stored:
        return [invalid(path, stored, "must have at least one stored version")]
    present = {v.get("name") for v in crd["spec"].get("versions") or ()}
    return [
        invalid(
            f"{path}[{index}]",
            version,
            f"missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions "
            f"until a storage migration ensures no data remains persisted in {version} and removes {version} from "
            "status.storedVersions",
        )
        for index, version in enumerate(stored)
        if version not in present
    ]


def _approval_state(crd: Obj) -> str:
    """Whether a group of the Kubernetes community is approved: "missing", "invalid", "bypassed" or "approved"."""
    value = (crd["metadata"].get("annotations") or {}).get(_APPROVED, "")
    if not value:
        return "missing"
    if value.startswith("unapproved"):
        return "bypassed"
    url = urlsplit(value)
    return "approved" if url.scheme and url.netloc else "invalid"


def _approval(obj: Obj) -> list[FieldError]:
    """Groups of the Kubernetes community ask for the page where the API was approved, or a word that it was not."""
    group = obj["spec"].get("group") or ""
    if group not in ("k8s.io", "kubernetes.io") and not group.endswith((".k8s.io", ".kubernetes.io")):
        return []
    state = _approval_state(obj)
    path, text = f"metadata.annotations[{_APPROVED}]", f'protected groups must have approval annotation "{_APPROVED}"'
    if state == "missing":
        return [required(path, f"{text}, see {_APPROVAL}")]
    if state == "invalid":
        text += f' with either a URL or a reason starting with "unapproved", see {_APPROVAL}'
        return [invalid(path, obj["metadata"]["annotations"][_APPROVED], text)]
    return []


STRATEGIES = {"customresourcedefinitions.apiextensions.k8s.io": DefinitionStrategy}
