"""What containers may ask for only together with something of their pod: user namespaces, volumes of a kind, a part of
the resources of the whole."""

from __future__ import annotations

from collections.abc import Iterator

from stablehand.machinery import quantity
from stablehand.machinery.fielderrors import FieldError, invalid, not_found, not_supported, required
from stablehand.machinery.podresources import amounts, format_amount, pod_requests
from stablehand.machinery.types import Obj

_WHOLE = ("cpu", "memory")


def validate_together(spec: Obj, path: str) -> list[FieldError]:
    return [*_unmasked(spec, path), *_file_references(spec, path), *_parts_of_the_whole(spec, path)]


def _containers(spec: Obj, path: str) -> Iterator[tuple[str, Obj]]:
    for key in ("containers", "initContainers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(key) or ()):
            yield f"{path}.{key}[{index}]", container


def _unmasked(spec: Obj, path: str) -> Iterator[FieldError]:
    """Containers that want to see all of /proc have to be in a user namespace."""
    for where, container in _containers(spec, path):
        wanted = (container.get("securityContext") or {}).get("procMount")
        if wanted == "Unmasked" and spec.get("hostUsers") is not False:
            text = "`hostUsers` must be false to use `Unmasked`"
            yield invalid(f"{where}.securityContext.procMount", wanted, text)


def _file_references(spec: Obj, path: str) -> Iterator[FieldError]:
    """Environment files lie in emptyDir volumes."""
    volumes = {volume.get("name"): volume for volume in spec.get("volumes") or ()}
    for above, container in _containers(spec, path):
        for index, entry in enumerate(container.get("env") or ()):
            ref = (entry.get("valueFrom") or {}).get("fileKeyRef")
            if ref is None:
                continue
            where = f"{above}.env[{index}].valueFrom.fileKeyRef"
            yield from (required(f"{where}.{field}") for field in ("volumeName", "path", "key") if not ref.get(field))
            place = str(ref.get("path") or "")
            if place.startswith("/") or ".." in place.split("/"):
                text = "must be a relative path" if place.startswith("/") else "must not contain '..'"
                yield invalid(f"{where}.path", place, text)
            name = ref.get("volumeName")
            if name and name not in volumes:
                yield not_found(f"{where}.volumeName", name)
            elif name and "emptyDir" not in volumes[name]:
                yield invalid(f"{where}.volumeName", name, "referenced volume must be of type emptyDir")


def _parts_of_the_whole(spec: Obj, path: str) -> Iterator[FieldError]:
    """Containers share what their pod asks for and is limited to as a whole."""
    resources = spec.get("resources") or {}
    for kind in ("requests", "limits"):
        for name in resources.get(kind) or {}:
            if name not in _WHOLE and not name.startswith("hugepages-"):
                yield not_supported(f"{path}.resources.{kind}[{name}]", name, _WHOLE)
    try:
        whole, limits = amounts(resources.get("requests")), amounts(resources.get("limits"))
        together = pod_requests({key: spec[key] for key in ("containers", "initContainers") if key in spec})
        for name, value in whole.items():
            if together.get(name, 0) > value:
                text = f"must be greater than or equal to aggregate container requests of {format_amount(name, together[name])}"
                yield invalid(f"{path}.resources.requests[{name}]", resources["requests"][name], text)
        for where, container in _containers(spec, path):
            own = (container.get("resources") or {}).get("limits") or {}
            for name, value in amounts(own).items():
                if value > limits.get(name, value):
                    text = f"must be less than or equal to pod limits of {resources['limits'][name]}"
                    yield invalid(f"{where}.resources.limits[{name}]", own[name], text)
    except quantity.QuantityError:
        return  # told where the quantity itself is looked at
