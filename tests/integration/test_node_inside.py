"""What containers find inside, as the upstream conformance suite looks at it: files, environment, names, rights.

How pods live and end is test_node_lifecycle.py's.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stablehand.machinery.types import Obj
from tests.integration.nodecase import (
    WAIT,
    NodeCase,
    config_map,
    container,
    first,
    mount,
    pod,
    running_node,
    secret,
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeCase]:
    yield from running_node(tmp_path_factory.mktemp("i") / "x", "shtest8", "10.229.78.0/24", 10287)


def field(name: str, path: str) -> Obj:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def amount(name: str, path: str, divisor: str = "0") -> Obj:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": path, "divisor": divisor}}}


def test_environment(node: NodeCase) -> None:
    env = [
        field("NAME", "metadata.name"),
        field("IP", "status.podIP"),
        field("HOST", "status.hostIP"),
        field("LABEL", "metadata.labels['a']"),
        amount("CPU", "limits.cpu"),
        amount("MILLI", "limits.cpu", "1m"),
        amount("MEMORY", "requests.memory", "1Mi"),
    ]
    demand = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}
    refs = [
        {"configMapRef": {"name": "settings"}},
        {"prefix": "p-", "configMapRef": {"name": "settings"}},
        {"prefix": "s_", "secretRef": {"name": "keys"}},
        {"configMapRef": {"name": "none", "optional": True}},
    ]
    expanded = [{"name": "A", "value": "a"}, {"name": "AA", "value": "$(A)$(A) $$(A) $(B)"}]
    path_env = [field("POD", "metadata.name")]
    late_env = [field("SUB", "metadata.annotations['sub']"), field("POD", "metadata.name")]
    work = [{"name": "w", "emptyDir": {}}]
    node.create(
        config_map("settings", {"one": "1", "2nd": "2"}),
        secret("keys", {"k": "v"}),
        pod(
            "late",
            WAIT,
            of={"env": late_env, "volumeMounts": [mount("w", "/s", subPathExpr="$(SUB)/$(POD)")]},
            volumes=work,
        ),
    )
    bad = [{"name": "POD", "value": "/tmp"}]
    missing = [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k"}}}]
    sub = [mount("w", "/sub", subPathExpr="$(POD)"), mount("w", "/all")]
    node.create(
        pod("absolute", "true", of={"env": bad, "volumeMounts": sub}, volumes=work),
        pod("missing", "true", of={"env": missing}),
    )
    said = node.outputs(
        pod("fields", of={"command": ["env"], "env": env, "resources": demand}, meta={"labels": {"a": "b"}}),
        pod("from", of={"command": ["env"], "envFrom": refs}),
        pod("expand", of={"command": ["echo", "$(AA)"], "args": ["$(A)", "$$(A)", "$(C)"], "env": expanded}),
        pod("subpath", "touch /sub/x; ls /all/subpath", of={"env": path_env, "volumeMounts": sub}, volumes=work),
        pod("args", of={"command": ["echo"], "args": ["x", "y"]}),
    )
    status = node.get("fields")["status"]
    for line in (
        "NAME=fields",
        f"IP={status['podIP']}",
        f"HOST={status['hostIP']}",
        "LABEL=b",
        "CPU=2",
        "MILLI=1250",
        "MEMORY=32",
    ):
        assert line in said["fields"].split("\n")
    assert {"one=1", "2nd=2", "p-one=1", "p-2nd=2", "s_k=v"} <= set(said["from"].split("\n"))
    assert said["expand"] == "aa $(A) $(B) a $(A) $(C)\n"
    assert said["subpath"] == "x\n" and said["args"] == "x y\n"
    for name in ("absolute", "missing", "late"):
        waiting = "CreateContainerConfigError"
        node.until(name, lambda s: first(s)["state"]["waiting"]["reason"] == waiting)  # noqa: B023
    node.kubectl("annotate", "pod", "late", "sub=deep")
    node.ready("late")


def test_volumes_show_what_they_hold(node: NodeCase) -> None:
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    node.create(config_map("cm", {"a": "1", "b": "2"}), secret("sec", {"k": "v"}), config_map("gone", {"g": "1"}))
    volumes = [
        {"name": "cm", "configMap": {"name": "cm"}},
        {"name": "item", "configMap": {"name": "cm", "items": [{"key": "b", "path": "deep/b", "mode": 0o400}]}},
        {"name": "sec", "secret": {"secretName": "sec", "defaultMode": 0o440}},
        {"name": "all", "projected": {"sources": [{"configMap": {"name": "cm"}}, {"secret": {"name": "sec"}}]}},
        {"name": "later", "configMap": {"name": "later", "optional": True}},
        {"name": "gone", "configMap": {"name": "gone", "optional": True}},
        {
            "name": "down",
            "downwardAPI": {
                "items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                    {
                        "path": "d/cpu",
                        "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"},
                    },
                ]
            },
        },
        {"name": "disk", "emptyDir": {}},
        {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "shared", "emptyDir": {"medium": "Memory"}},
    ]
    mounts = [mount(v["name"], f"/v/{v['name']}") for v in volumes] + [mount("cm", "/one", subPath="a")]
    limits = {"limits": {"memory": "32Mi", "cpu": "1250m"}, "requests": {"cpu": "1m"}}
    modes = 'stat -L -c "%a %u %g" '
    kinds = "for i in ram shared; do grep /v/$i /proc/mounts | cut -d' ' -f3; df -k /v/$i | tail -1 | awk '{print $2}'; done"
    look = (
        f"{modes} /v/cm/a /v/item/deep/b /v/sec/k /v/all/k /v/disk; cat /v/cm/a /v/item/deep/b /v/all/k /one; {kinds}"
    )
    group = f"{modes} /v/sec/k /v/disk {token}; cat /v/sec/k; touch /v/disk/f; stat -c '%g' /v/disk/f"
    said = node.outputs(
        pod("root", look, of={"volumeMounts": mounts, "resources": limits}, volumes=volumes),
        pod(
            "user",
            group,
            of={"volumeMounts": mounts},
            volumes=volumes,
            securityContext={"runAsUser": 1000, "fsGroup": 2000},
        ),
    )
    assert said["root"].split("\n")[:-1] == [
        "644 0 0", "400 0 0", "440 0 0", "644 0 0", "777 0 0", "12v1tmpfs", "1024", "tmpfs", "32768",
    ]  # fmt: skip
    assert said["user"].split("\n")[:-1] == ["440 0 2000", "2777 0 2000", "640 1000 2000", "v2000"]

    node.create(pod("watch", WAIT, of={"volumeMounts": mounts}, volumes=volumes, meta={"labels": {"l": "1"}}))
    node.ready("watch")
    node.kubectl("patch", "cm", "cm", "-p", '{"data":{"a":"11"}}')
    node.kubectl("delete", "cm", "gone")
    node.create(config_map("later", {"z": "9"}))
    node.kubectl("label", "pod", "watch", "l=2", "--overwrite")
    shown = "cat /v/cm/a /v/all/a /v/later/z /v/down/labels /v/down/d/cpu; ls /v/gone"
    cpus = int(node.cluster.get("nodes")["items"][0]["status"]["allocatable"]["cpu"]) * 1000
    node.cluster.until(lambda: node.exec("watch", "sh", "-c", shown) == f'11119l="2"{cpus}', 20)
    node.create(
        pod(
            "absent",
            "true",
            of={"volumeMounts": [mount("v", "/v")]},
            volumes=[{"name": "v", "configMap": {"name": "nowhere"}}],
        )
    )
    assert 'configmap "nowhere" not found' in node.event("absent", "FailedMount")
    node.kubectl("delete", "pod", "--now", "watch", "absent")


def test_subpaths_and_host_paths(node: NodeCase, tmp_path_factory: pytest.TempPathFactory) -> None:
    host = tmp_path_factory.mktemp("host")
    (host / "f").write_text("x")
    empty: list[Obj] = [{"name": "e", "emptyDir": {}}]
    whole = [mount("e", "/all")]
    prepare = container("i", "mkdir -p /all/sub; echo ff >/all/ff; ln -s /etc /all/out", volumeMounts=whole)
    subs = [mount("e", "/sub", subPath="sub"), mount("e", "/ff", subPath="ff"), mount("e", "/new", subPath="a/b")]

    def on_host(name: str, kind: str, path: str) -> Obj:
        source = {"path": str(host / path) if not path.startswith("/") else path, "type": kind}
        return pod(
            name, "ls -ld /h", of={"volumeMounts": [mount("h", "/h")]}, volumes=[{"name": "h", "hostPath": source}]
        )

    node.create(
        pod(
            "leads-out",
            "true",
            initContainers=[prepare],
            of={"volumeMounts": [mount("e", "/o", subPath="out")]},
            volumes=empty,
        ),
        on_host("no-dir", "Directory", "f"),
        on_host("no-file", "File", "."),
        on_host("no-socket", "Socket", "f"),
    )
    said = node.outputs(
        pod(
            "subs",
            "echo w >/sub/x; cat /all/sub/x /ff; ls -d /all/a/b",
            initContainers=[prepare],
            of={"volumeMounts": [*whole, *subs]},
            volumes=empty,
        ),
        on_host("dir", "Directory", "."),
        on_host("file", "File", "f"),
        on_host("device", "CharDevice", "/dev/null"),
        on_host("made", "DirectoryOrCreate", "new"),
    )
    assert said["subs"] == "w\nff\n/all/a/b\n"
    assert said["device"].startswith("c") and (host / "new").is_dir()
    for name in ("no-dir", "no-file", "no-socket"):
        assert "hostPath type check failed" in node.event(name, "FailedMount")
    node.until("leads-out", lambda s: first(s)["state"]["waiting"]["reason"] == "CreateContainerConfigError")
    node.kubectl("delete", "pod", "--now", "leads-out", "no-dir", "no-file", "no-socket")


def test_claims(node: NodeCase) -> None:
    def claim(name: str, mode: str) -> Obj:
        spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Mi"}}}
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}

    def uses(name: str, sh: str, source: Obj, **spec: object) -> Obj:
        return pod(name, sh, of={"volumeMounts": [mount("d", "/d")]}, volumes=[{"name": "d", **source}], **spec)

    alone = {"persistentVolumeClaim": {"claimName": "alone"}}
    template = {"metadata": {"labels": {"x": "y"}}, "spec": claim("", "ReadWriteOnce")["spec"]}
    node.create(claim("alone", "ReadWriteOncePod"))
    said = node.outputs(
        uses(
            "group",
            "id -G; stat -c '%g %a' /d; echo kept >/d/f",
            alone,
            securityContext={"runAsUser": 1000, "fsGroup": 2000},
        ),
        uses("own", "echo hi >/d/f", {"ephemeral": {"volumeClaimTemplate": template}}),
    )
    assert said["group"] == "0 2000\n2000 2777\n"
    own = node.cluster.get("pvc", "own-d")["metadata"]
    assert own["ownerReferences"][0]["kind"] == "Pod" and own["labels"] == {"x": "y"}
    node.remove("own", "group")
    node.cluster.until(lambda: node.kubectl("get", "pvc", "own-d", check=False).returncode != 0)
    node.create(uses("first", WAIT, alone))
    node.ready("first")
    node.create(uses("second", "cat /d/f", alone))
    assert "ReadWriteOncePod access mode" in node.event("second", "FailedScheduling")
    node.remove("first")
    node.until("second", lambda s: s["phase"] == "Succeeded")


def test_names_namespaces_and_rights(node: NodeCase) -> None:
    def with_context(name: str, sh: str, **context: object) -> Obj:
        return pod(name, sh, of={"securityContext": context})

    status = "grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status | awk '{print $2}'"
    node.create(
        with_context("as-root", "true", runAsNonRoot=True),
        pod("long", "hostname", hostname="h" * 63, subdomain="s" * 63, setHostnameAsFQDN=True),
        pod("shared", shareProcessNamespace=True, containers=[container("c", WAIT), container("d", "sleep 1000")]),
    )
    named: Obj = {"hostname": "hh", "subdomain": "sub"}
    said = node.outputs(
        pod("names", "cat /etc/hosts; hostname", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["foo", "bar"]}], **named),
        pod("full", "hostname", setHostnameAsFQDN=True, **named),
        pod(
            "resolv",
            "cat /etc/resolv.conf",
            dnsPolicy="None",
            dnsConfig={"nameservers": ["1.1.1.1"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}]},
        ),
        pod(
            "ids",
            "id",
            securityContext={"runAsUser": 1001, "runAsGroup": 2002, "supplementalGroups": [3003], "fsGroup": 4004},
        ),
        with_context("readonly", "touch /x || echo refused", readOnlyRootFilesystem=True),
        with_context(
            "bound", status, runAsUser=1000, allowPrivilegeEscalation=False, seccompProfile={"type": "RuntimeDefault"}
        ),
        with_context("free", status, privileged=True),
        with_context("net", status, capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        pod(
            "sysctl",
            "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start",
            securityContext={
                "sysctls": [
                    {"name": "kernel.shm_rmid_forced", "value": "1"},
                    {"name": "net/ipv4/ip_unprivileged_port_start", "value": "80"},
                ]
            },
        ),
        pod("hostpid", "cat /proc/1/comm", hostPID=True),
        pod("ownpid", of={"command": ["cat", "/proc/1/comm"]}),
    )
    assert "1.2.3.4\tfoo\tbar" in said["names"] and "hh.sub.default.svc.cluster.local\thh" in said["names"]
    assert said["names"].endswith("\nhh\n") and said["full"] == "hh.sub.default.svc.cluster.local\n"
    assert said["resolv"].split("\n")[:-1] == ["search a.b", "nameserver 1.1.1.1", "options ndots:2"]
    assert said["ids"].startswith("uid=1001 gid=2002") and "3003" in said["ids"] and "4004" in said["ids"]
    assert "refused" in said["readonly"]
    assert said["bound"].split() == ["0000000000000000", "1", "2"]
    assert said["free"].split()[1:] == ["0", "0"] and int(said["free"].split()[0], 16) > 1 << 30
    assert said["net"].split()[0] == "0000000000001000"
    assert said["sysctl"] == "1\n80\n"
    assert said["ownpid"] == "cat\n" and said["hostpid"] != "cat\n"
    node.until("as-root", lambda s: first(s)["state"]["waiting"]["reason"] == "CreateContainerConfigError")
    assert "is too long (64 characters is the max" in node.event("long", "FailedCreatePodSandBox")
    node.ready("shared")
    assert "sleep 1000" in node.exec("shared", "ps")
    node.kubectl("delete", "pod", "--now", "as-root", "long", "shared")
