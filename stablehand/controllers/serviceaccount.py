"""Each namespace gets its service account `default` and the ConfigMap with the cluster's root certificate."""

from __future__ import annotations

from stablehand.client import AlreadyExists, ApiError, Client, NotFound
from stablehand.machinery import meta
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.types import Obj
from stablehand.runtime import Controller, Informers, Result, writes

ROOT_CA = "kube-root-ca.crt"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class _PerNamespace(Controller):
    """Keeps one object of a fixed name in every namespace that is not on its way out."""

    res: Resource
    object_name: str

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(workers=2)
        self._client = client
        self._namespaces = informers.get(resource("namespaces"))
        self._objects = informers.get(self.res, field_selector=f"metadata.name={self.object_name}")
        self.wait_for = [self._namespaces, self._objects]
        self._namespaces.on_change(self._namespace_changed)
        self._objects.on_change(self._object_changed)

    def _namespace_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "DELETED":
            self.enqueue(meta.name(new))

    def _object_changed(self, event: str, old: Obj | None, new: Obj) -> None:
        if event != "ADDED":
            self.enqueue(meta.namespace(new))

    def wanted(self, namespace: str) -> Obj:
        raise NotImplementedError

    def repaired(self, existing: Obj) -> Obj | None:
        """The object as it should be, or None when it is."""
        return None

    async def reconcile(self, key: str) -> Result | None:
        namespace = self._namespaces.cached("", key)
        if namespace is None or meta.deletion_timestamp(namespace):
            return None
        if (namespace.get("status") or {}).get("phase") == "Terminating":
            return None
        existing = self._objects.cached(key, self.object_name)
        try:
            if existing is None:
                await writes.create(self._client, self._objects, self.wanted(key))
            else:
                changed = self.repaired(existing)
                if changed is not None:
                    await writes.update(self._client, self._objects, changed)
        except (AlreadyExists, NotFound):
            return None  # made by someone else, or the namespace has gone
        except ApiError as e:
            if any(c.get("reason") == "NamespaceTerminating" for c in e.details.get("causes") or ()):
                return None
            raise
        return None


class ServiceAccountController(_PerNamespace):
    name = "serviceaccount"
    res = resource("serviceaccounts")
    object_name = "default"

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(client.with_manager("service-account-controller"), informers)

    def wanted(self, namespace: str) -> Obj:
        metadata = {"name": self.object_name, "namespace": namespace}
        return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


class RootCaController(_PerNamespace):
    name = "root-ca-certificate-publisher"
    res = resource("configmaps")
    object_name = ROOT_CA

    def __init__(self, client: Client, informers: Informers, ca_pem: str) -> None:
        self._ca_pem = ca_pem
        super().__init__(client.with_manager("root-ca-cert-publisher"), informers)

    def wanted(self, namespace: str) -> Obj:
        metadata = {
            "name": self.object_name,
            "namespace": namespace,
            "annotations": {"kubernetes.io/description": _DESCRIPTION},
        }
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": self._ca_pem}}

    def repaired(self, existing: Obj) -> Obj | None:
        wanted = self.wanted(meta.namespace(existing))
        notes = {**meta.annotations(existing), **wanted["metadata"]["annotations"]}
        if existing.get("data") == wanted["data"] and meta.annotations(existing) == notes:
            return None
        return {**existing, "data": wanted["data"], "metadata": {**existing["metadata"], "annotations": notes}}
