"""Certificate requests, API services, admission webhooks."""

from __future__ import annotations

import base64
import time

from stablehand.apiserver.strategies import checks
from stablehand.apiserver.strategies.base import Strategy, bump_generation, keep
from stablehand.apiserver.strategies.metadata import path_name
from stablehand.apiserver.strategies.webhookclients import check_client
from stablehand.apiserver.strategies.webhookrules import validate_hook
from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, duplicate, forbidden, invalid, required
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj

_USAGES = ("digital signature", "key encipherment")


class SigningRequestStrategy(Strategy):
    """The requester's identity is written into the spec by admission (certificates), which knows it."""

    def default(self, obj: Obj) -> None:
        obj.setdefault("spec", {}).setdefault("usages", list(_USAGES))

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {}

    def prepare_update(self, new: Obj, old: Obj) -> None:
        keep(new, old, "spec")
        keep(new, old, "status")

    def prepare_status_update(self, new: Obj, old: Obj) -> None:
        """Signers write the certificate; approvals stay as they are."""
        super().prepare_status_update(new, old)
        decided = ("Approved", "Denied")
        status = new.setdefault("status", {})
        kept = [c for c in (old.get("status") or {}).get("conditions") or () if c.get("type") in decided]
        others = [c for c in status.get("conditions") or () if c.get("type") not in decided]
        if kept or others:
            status["conditions"] = kept + others
        _stamp_conditions(status)

    def prepare_subresource(self, new: Obj, old: Obj, subresource: str) -> None:
        """/approval changes conditions only."""
        keep(new, old, "spec")
        conditions = (new.get("status") or {}).get("conditions")
        new["status"] = dict(old.get("status") or {})
        if conditions is not None:
            new["status"]["conditions"] = conditions
        _stamp_conditions(new["status"])

    def validate_create(self, obj: Obj) -> list[FieldError]:
        errors = super().validate_create(obj)
        spec = obj["spec"]
        if spec.get("request") and (why := _unreadable_request(spec["request"])):
            errors.append(invalid("spec.request", spec["request"], why))
        if spec.get("signerName") == "kubernetes.io/legacy-unknown":
            text = "the legacy signerName is not allowed via this API version"
            errors.append(invalid("spec.signerName", spec["signerName"], text))
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            text = "may not specify a duration less than 600 seconds (10 minutes)"
            errors.append(invalid("spec.expirationSeconds", seconds, text))
        return errors

    def validate_subresource(self, new: Obj, old: Obj, subresource: str) -> list[FieldError]:
        return super().validate_subresource(new, old, subresource) + _decisions(new, old)

    def validate_status(self, new: Obj, old: Obj) -> list[FieldError]:
        certificate = (new.get("status") or {}).get("certificate")
        before = (old.get("status") or {}).get("certificate")
        if before and certificate != before:
            return [forbidden("status.certificate", "updates may not change the certificate")]
        if certificate and not before and (why := _unreadable_certificate(certificate)):
            return [invalid("status.certificate", "<certificate data>", why)]
        return []

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors: list[FieldError] = []
        if not spec.get("request"):
            errors.append(invalid("spec.request", "", "PEM block type must be CERTIFICATE REQUEST"))
        if not spec.get("usages"):
            errors.append(required("spec.usages", "usages must be provided"))
        for index in sorted(checks.duplicates(spec.get("usages") or ())):
            errors.append(duplicate(f"spec.usages[{index}]", spec["usages"][index]))
        signer = spec.get("signerName") or ""
        if not signer:
            errors.append(required("spec.signerName"))
        elif "/" not in signer:
            text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
            errors.append(invalid("spec.signerName", signer, text))
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            text = "may not specify a duration less than 600 seconds (10 minutes)"
            errors.append(invalid("spec.expirationSeconds", seconds, text))
        return errors


def _stamp_conditions(status: Obj) -> None:
    """Times that the client left out."""
    now = format_time(time.time())
    for condition in status.get("conditions") or ():
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = now
        if not condition.get("lastTransitionTime"):
            condition["lastTransitionTime"] = now


def _unreadable_request(text: str) -> str:
    from cryptography import x509

    try:
        pem = base64.b64decode(text, validate=True)
        if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
            return "PEM block type must be CERTIFICATE REQUEST"
        x509.load_pem_x509_csr(pem)
    except ValueError as e:
        return str(e)
    return ""


def _unreadable_certificate(text: str) -> str:
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(base64.b64decode(text, validate=True))
    except ValueError as e:
        return str(e)
    return ""


def _decisions(new: Obj, old: Obj) -> list[FieldError]:
    """Approved and Denied exclude one another, are only ever True, and stay once they are said."""
    path = "status.conditions"
    found = {c.get("type"): c.get("status") for c in (new.get("status") or {}).get("conditions") or ()}
    errors = []
    if "Approved" in found and "Denied" in found:
        errors.append(invalid(path, "Denied", "Approved and Denied conditions are mutually exclusive"))
    for kind in ("Approved", "Denied"):
        if kind in found and found[kind] != "True":
            text = 'may not be "False" or "Unknown"'
            errors.append(invalid(f"{path}.status", found[kind], text))
    for condition in (old.get("status") or {}).get("conditions") or ():
        if condition.get("type") not in found:
            text = f"updates may not remove a condition of type {condition.get('type')!r}".replace("'", '"')
            errors.append(forbidden(path, text))
    return errors


class APIServiceStrategy(Strategy):
    any_finalizer = True
    name_rule = staticmethod(path_name)

    def default(self, obj: Obj) -> None:
        service = obj.setdefault("spec", {}).get("service")
        if service is not None:
            service.setdefault("port", 443)

    def initial_status(self, obj: Obj) -> None:
        obj["status"] = {}

    def validate(self, obj: Obj) -> list[FieldError]:
        spec = obj["spec"]
        errors: list[FieldError] = []
        wanted = f"{spec.get('version', '')}.{spec.get('group', '')}"
        name = obj["metadata"].get("name")
        if name != wanted:
            errors.append(invalid("metadata.name", name, f'must be `spec.version+"."+spec.group`: "{wanted}"'))
        for key in ("groupPriorityMinimum", "versionPriority"):
            value = spec.get(key) or 0
            if not 0 < value <= (20000 if key[0] == "g" else 1000):
                text = f"must be positive and less than {20000 if key[0] == 'g' else 1000}"
                errors.append(invalid(f"spec.{key}", value, text))
        if spec.get("service") is None and spec.get("caBundle") is not None:
            errors.append(invalid("spec.caBundle", "", "local APIServices may not have a caBundle"))
        return errors


class WebhookStrategy(Strategy):
    def prepare_create(self, obj: Obj) -> None:
        obj["metadata"]["generation"] = 1

    def prepare_update(self, new: Obj, old: Obj) -> None:
        bump_generation(new, old, new.get("webhooks") != old.get("webhooks"))

    def default(self, obj: Obj) -> None:
        mutating = obj.get("kind", "").startswith("Mutating")
        for hook in obj.get("webhooks") or ():
            hook.setdefault("failurePolicy", "Fail")
            hook.setdefault("matchPolicy", "Equivalent")
            hook.setdefault("namespaceSelector", {})
            hook.setdefault("objectSelector", {})
            hook.setdefault("timeoutSeconds", 10)
            if mutating:
                hook.setdefault("reinvocationPolicy", "Never")
            service = (hook.get("clientConfig") or {}).get("service")
            if service is not None:
                service.setdefault("port", 443)
            for rule in hook.get("rules") or ():
                rule.setdefault("scope", "*")

    def validate(self, obj: Obj) -> list[FieldError]:
        errors: list[FieldError] = []
        seen: set[str] = set()
        for index, hook in enumerate(obj.get("webhooks") or ()):
            path = f"webhooks[{index}]"
            name = hook.get("name") or ""
            errors.extend(checks.named(name, names.dns1123_subdomain, f"{path}.name"))
            if name.count(".") < 2:
                text = "should be a domain with at least three segments separated by dots"
                errors.append(invalid(f"{path}.name", name, text))
            if name in seen:
                errors.append(duplicate(f"{path}.name", name))
            seen.add(name)
            errors.extend(checks.one_of(hook.get("sideEffects"), ("None", "NoneOnDryRun"), f"{path}.sideEffects"))
            versions = hook.get("admissionReviewVersions") or ()
            if not versions:
                text = "must specify one of v1, v1beta1"
                errors.append(required(f"{path}.admissionReviewVersions", text))
            elif not {"v1", "v1beta1"} & set(versions):
                text = "must include at least one of v1, v1beta1"
                errors.append(invalid(f"{path}.admissionReviewVersions", list(versions), text))
            seconds = hook.get("timeoutSeconds")
            if seconds is not None and not 1 <= seconds <= 30:
                text = "the timeout value must be between 1 and 30 seconds"
                errors.append(invalid(f"{path}.timeoutSeconds", seconds, text))
            errors.extend(validate_hook(hook, path))
            errors.extend(check_client(hook.get("clientConfig") or {}, f"{path}.clientConfig"))
            errors.extend(checks.label_selector(hook.get("namespaceSelector"), f"{path}.namespaceSelector"))
            errors.extend(checks.label_selector(hook.get("objectSelector"), f"{path}.objectSelector"))
            if hook.get("matchConditions"):
                from stablehand.apiserver.strategies.policies import conditions  # loads CEL

                errors.extend(conditions(hook["matchConditions"], f"{path}.matchConditions"))
        return errors


_ADMISSION = "admissionregistration.k8s.io"
STRATEGIES = {
    "certificatesigningrequests.certificates.k8s.io": SigningRequestStrategy,
    "apiservices.apiregistration.k8s.io": APIServiceStrategy,
    f"validatingwebhookconfigurations.{_ADMISSION}": WebhookStrategy,
    f"mutatingwebhookconfigurations.{_ADMISSION}": WebhookStrategy,
}
