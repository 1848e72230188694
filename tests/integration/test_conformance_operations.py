"""Every operation of every built-in kind, as upstream's "should support … API operations" tests play them.

For each kind that can be made: discovery names it; create, get, list, list over all namespaces, watch, patch (merge),
update and their watch events; get, patch and update of its status where it has one, which leave the spec alone and
whose annotations are kept; delete; deletecollection by label with its watch events.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stablehand.machinery.resources import RESOURCES, Resource
from tests.integration.conftest import Cluster
from tests.integration.hollow import MERGE, Api, Obj, template, workload

LABELS = {"app": "x"}
RULE: Obj = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["widgets"]}
HOOK = {
    "name": "w.example.com",
    "clientConfig": {"url": "https://127.0.0.1:1/"},
    "rules": [RULE],
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
    "failurePolicy": "Ignore",
}
CONSTRAINTS = {"matchConstraints": {"resourceRules": [RULE]}}
STORAGE = {"resources": {"requests": {"storage": "1Mi"}}, "accessModes": ["ReadWriteOnce"]}
ROLE_REF = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
JOB = {"template": template({}, restartPolicy="Never"), "suspend": True}
SCHEMA = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
VERSIONS = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}]
LIMITED = {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}
SUBJECT: Obj = {
    "subjects": [{"kind": "User", "user": {"name": "nobody"}}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
}
MUTATION = {
    "patchType": "ApplyConfiguration",
    "applyConfiguration": {"expression": 'Object{metadata: Object.metadata{labels: {"a": "b"}}}'},
}
WORKLOAD = workload("x", LABELS)["spec"]

# What an object of the kind needs beside its name.
NEEDS: dict[str, Obj] = {
    "configmaps": {"data": {"a": "b"}},
    "endpoints": {},
    "events": {"involvedObject": {"namespace": "NS"}, "reason": "Test", "message": "m", "type": "Normal"},
    "limitranges": {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}},
    "nodes": {},
    "persistentvolumeclaims": {"spec": STORAGE},
    "persistentvolumes": {
        "spec": {"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    },
    "pods": {"spec": template({})["spec"]},
    "podtemplates": {"template": template({})},
    "replicationcontrollers": {"spec": {"replicas": 0, "selector": LABELS, "template": template(LABELS)}},
    "resourcequotas": {"spec": {"hard": {"pods": "100"}}},
    "secrets": {"data": {"a": "Yg=="}},
    "serviceaccounts": {},
    "services": {"spec": {"ports": [{"port": 80}]}},
    "mutatingadmissionpolicies.admissionregistration.k8s.io": {
        "spec": {**CONSTRAINTS, "reinvocationPolicy": "Never", "mutations": [MUTATION]}
    },
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": {"spec": {"policyName": "nope"}},
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": {"webhooks": [HOOK]},
    "validatingadmissionpolicies.admissionregistration.k8s.io": {
        "spec": {**CONSTRAINTS, "validations": [{"expression": "true"}]}
    },
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": {
        "spec": {"policyName": "nope", "validationActions": ["Deny"]}
    },
    "validatingwebhookconfigurations.admissionregistration.k8s.io": {"webhooks": [HOOK]},
    "customresourcedefinitions.apiextensions.k8s.io": {
        "spec": {
            "group": "x.example.com",
            "scope": "Namespaced",
            "names": {"plural": "PLURAL", "kind": "PLURAL"},
            "versions": VERSIONS,
        }
    },
    "apiservices.apiregistration.k8s.io": {
        "spec": {
            "group": "x.example.org",
            "version": "VERSION",
            "groupPriorityMinimum": 100,
            "versionPriority": 10,
            "insecureSkipTLSVerify": True,
            "service": {"namespace": "default", "name": "nope"},
        }
    },
    "controllerrevisions.apps": {"revision": 1, "data": {"a": "b"}},
    "daemonsets.apps": {"spec": WORKLOAD},
    "deployments.apps": {"spec": {**WORKLOAD, "replicas": 0}},
    "replicasets.apps": {"spec": {**WORKLOAD, "replicas": 0}},
    "statefulsets.apps": {"spec": {**WORKLOAD, "replicas": 0}},
    "horizontalpodautoscalers.autoscaling": {
        "spec": {"maxReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "nope", "apiVersion": "apps/v1"}}
    },
    "cronjobs.batch": {"spec": {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": JOB}}},
    "jobs.batch": {"spec": JOB},
    "certificatesigningrequests.certificates.k8s.io": {
        "spec": {"request": "CSR", "signerName": "example.com/e2e", "usages": ["client auth"]}
    },
    "leases.coordination.k8s.io": {"spec": {"holderIdentity": "h", "leaseDurationSeconds": 30}},
    "endpointslices.discovery.k8s.io": {"addressType": "IPv4", "endpoints": []},
    "events.events.k8s.io": {
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "regarding": {"namespace": "NS"},
        "reason": "Test",
        "note": "m",
        "type": "Normal",
        "action": "a",
        "reportingController": "c",
        "reportingInstance": "i",
    },
    "flowschemas.flowcontrol.apiserver.k8s.io": {
        "spec": {
            "matchingPrecedence": 9000,
            "priorityLevelConfiguration": {"name": "global-default"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [SUBJECT],
        }
    },
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": {"spec": LIMITED},
    "ingresses.networking.k8s.io": {
        "spec": {"defaultBackend": {"service": {"name": "default-backend", "port": {"number": 80}}}}
    },
    "ingressclasses.networking.k8s.io": {"spec": {"controller": "example.com/controller"}},
    "ipaddresses.networking.k8s.io": {
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "nope"}}
    },
    "networkpolicies.networking.k8s.io": {"spec": {"podSelector": {}}},
    "servicecidrs.networking.k8s.io": {"spec": {"cidrs": ["CIDR"]}},
    "runtimeclasses.node.k8s.io": {"handler": "h"},
    "poddisruptionbudgets.policy": {"spec": {"minAvailable": 1, "selector": {"matchLabels": LABELS}}},
    "clusterroles.rbac.authorization.k8s.io": {"rules": []},
    "clusterrolebindings.rbac.authorization.k8s.io": {"roleRef": ROLE_REF},
    "roles.rbac.authorization.k8s.io": {"rules": []},
    "rolebindings.rbac.authorization.k8s.io": {"roleRef": ROLE_REF},
    "deviceclasses.resource.k8s.io": {"spec": {}},
    "resourceclaims.resource.k8s.io": {"spec": {}},
    "resourceclaimtemplates.resource.k8s.io": {"spec": {"spec": {}}},
    "resourceslices.resource.k8s.io": {
        "spec": {
            "driver": "x.example.com",
            "nodeName": "nope",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        }
    },
    "priorityclasses.scheduling.k8s.io": {"value": 7},
    "csidrivers.storage.k8s.io": {"spec": {}},
    "csinodes.storage.k8s.io": {"spec": {"drivers": []}},
    "csistoragecapacities.storage.k8s.io": {"storageClassName": "standard"},
    "storageclasses.storage.k8s.io": {"provisioner": "example.com/x"},
    "volumeattachments.storage.k8s.io": {
        "spec": {"attacher": "a", "nodeName": "nope", "source": {"persistentVolumeName": "nope"}}
    },
    "volumeattributesclasses.storage.k8s.io": {"driverName": "x.example.com", "parameters": {"a": "b"}},
}
MADE = [r for r in RESOURCES if "list" in r.verbs and r.key in NEEDS and not r.legacy]


@pytest.fixture(scope="module")
def api(control_plane: Cluster) -> Api:
    made = Api(control_plane.data_dir / "kubeconfig.yaml")
    made.namespace("ops")
    return made


@pytest.fixture(scope="module")
def request_pem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A certificate request in base64, as a CertificateSigningRequest holds it."""
    from base64 import b64encode

    folder: Path = tmp_path_factory.mktemp("csr")
    command = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=e2e"]
    command += ["-keyout", str(folder / "key"), "-out", str(folder / "csr")]
    subprocess.run(command, check=True, capture_output=True)
    yield b64encode((folder / "csr").read_bytes()).decode()


def named(r: Resource, number: int, csr: str) -> Obj:
    """The number-th object of a kind, and what its name has to be."""
    name = f"ops-{number}"
    if r.kind == "CustomResourceDefinition":
        name = f"ops{number}s.x.example.com"
    if r.kind == "APIService":
        name = f"v{number}.x.example.org"
    if r.kind == "CSIDriver":
        name = f"ops{number}.example.com"
    if r.kind == "IPAddress":
        name = f"10.96.200.{number}"
    words = {"NS": "ops", "PLURAL": f"ops{number}s", "VERSION": f"v{number}", "CSR": csr, "CIDR": f"10.{number}.0.0/24"}

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: fill(v) for k, v in value.items()}
        if isinstance(value, list):
            return [fill(v) for v in value]
        return words.get(value, value) if isinstance(value, str) else value

    metadata: Obj = {"name": name, "labels": {"ops": "yes"}}
    if r.kind == "IPAddress":
        metadata["labels"] |= {"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "me"}
    return {"apiVersion": r.api_version, "kind": r.kind, "metadata": metadata, **fill(NEEDS[r.key])}


def test_every_kind_is_covered() -> None:
    left = {r.key for r in RESOURCES if "list" in r.verbs and not r.legacy} - NEEDS.keys()
    assert left == {"componentstatuses", "namespaces"}


@pytest.mark.parametrize("r", MADE, ids=lambda r: f"{r.plural}.{r.version}.{r.group}")
def test_operations(api: Api, request_pem: str, r: Resource) -> None:
    group = f"/apis/{r.group}/{r.version}" if r.group else "/api/v1"
    found = {d["name"]: d for d in api.get(group)["resources"]}
    assert set(found[r.plural]["verbs"]) == set(r.verbs) and found[r.plural]["kind"] == r.kind
    path, everywhere = r.path("ops"), r.path()
    selected = {"labelSelector": "ops=yes"}

    def mark(obj: Obj, key: str, value: str) -> None:
        obj["metadata"].setdefault("annotations", {})[key] = value

    with api.watch(path, **selected) as watch:
        made = [api.post(path, named(r, number, request_pem)) for number in (1, 2, 3)]
        name = made[0]["metadata"]["name"]
        one = f"{path}/{name}"
        watch.until("ADDED", lambda o: o["metadata"]["name"] == name)
        got = api.get(one)
        assert (got["kind"], got["apiVersion"]) == (r.kind, r.api_version)
        assert got["metadata"]["uid"] == made[0]["metadata"]["uid"]
        assert got["metadata"]["managedFields"][0]["operation"] == "Update"
        assert len(api.items(path, **selected)) == len(api.items(everywhere, **selected)) == 3

        patched = api.patch(one, {"metadata": {"annotations": {"patched": "true"}}})
        assert patched["metadata"]["annotations"]["patched"] == "true"
        watch.until("MODIFIED", lambda o: (o["metadata"].get("annotations") or {}).get("patched") == "true")
        updated = api.change(one, lambda o: mark(o, "updated", "true"))
        assert updated["metadata"]["annotations"]["updated"] == "true"
        watch.until("MODIFIED", lambda o: (o["metadata"].get("annotations") or {}).get("updated") == "true")

        if "status" in r.subresources:
            assert f"{r.plural}/status" in found
            status = f"{one}/status"
            assert api.get(status)["metadata"]["name"] == name
            before = api.get(one)
            changed = api.patch(status, {"metadata": {"annotations": {"status-patched": "true"}}}, type=MERGE)
            if r.kind not in ("VolumeAttachment",):
                assert changed["metadata"]["annotations"]["status-patched"] == "true"
                changed = api.change(one, lambda o: mark(o, "status-updated", "true"), sub="/status")
                assert changed["metadata"]["annotations"]["status-updated"] == "true"
            after = api.get(one)
            assert after.get("spec") == before.get("spec")
            assert after["metadata"].get("generation") == before["metadata"].get("generation")

        api.delete(one)
        answer = api.call("GET", one)
        assert answer.code == 404 or answer.body["metadata"]["deletionTimestamp"]
        api.delete(path, **selected)

        def left() -> list[Obj]:
            return api.items(path, **selected)

        for item in left():
            if item["metadata"].get("finalizers"):
                assert item["metadata"]["deletionTimestamp"]
        api.until(lambda: not left())
        watch.until("DELETED", lambda o: o["metadata"]["name"] == made[2]["metadata"]["name"])
