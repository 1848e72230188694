"""What containerd and its pods are told: pause image, containerd.toml, sandbox and container configs, image names."""

from __future__ import annotations

import io
import platform
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from stablehand.node.config import NodeConfig, NodeError
from stablehand.node.container import check_user, container_config
from stablehand.node.containerd import registry_hosts, render_config
from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.env import ConfigError
from stablehand.node.images import archive_names, normalize
from stablehand.node.network import HostPort, cni_config, host_ports, rules
from stablehand.node.pause import pause_archive, pause_binary
from stablehand.node.pull import credentials, pull_policy
from stablehand.node.resources import container_resources, qos_class
from stablehand.node.sandbox import dns_config, hostname, hosts_file, sandbox_config
from stablehand.node.unsupported import unsupported_fields
from tests.unit.node.fakeapi import FakeApi
from tests.unit.node.pods import container, make_pod


def config(**more: Any) -> NodeConfig:
    return NodeConfig(client=FakeApi().client(), data_dir=Path("/x/d"), run_dir=Path("/x/r"), node_name="n1", **more)


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_pause_is_a_small_static_elf(arch: str) -> None:
    binary = pause_binary(arch)
    assert binary[:4] == b"\x7fELF" and len(binary) < 400
    assert int.from_bytes(binary[18:20], "little") == {"amd64": 62, "arm64": 183}[arch]
    archive = pause_archive("a.b/pause:1", arch)
    assert archive == pause_archive("a.b/pause:1", arch)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert {"oci-layout", "index.json"} < set(tar.getnames())


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no pause for this machine")
def test_pause_runs_until_told(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(pause_binary({"x86_64": "amd64"}.get(platform.machine(), "arm64")))
    program.chmod(0o755)
    process = subprocess.Popen([str(program)])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    process.terminate()
    assert process.wait(5) == 0


def test_archive_names(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(pause_archive("a.b/pause:1", "amd64"))
    assert archive_names(path) == ["a.b/pause:1"]
    path.write_bytes(b"nonsense")
    with pytest.raises(NodeError, match="is no image archive"):
        archive_names(path)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("httpd", "docker.io/library/httpd:latest"),
        ("a/b:1", "docker.io/a/b:1"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("registry.k8s.io/pause:3.6", "registry.k8s.io/pause:3.6"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("x@sha256:" + "0" * 64, "docker.io/library/x@sha256:" + "0" * 64),
    ],
)
def test_image_names(name: str, full: str) -> None:
    assert normalize(name) == full


def test_pull_policy_and_credentials() -> None:
    assert pull_policy({"image": "httpd"}) == "Always"
    assert pull_policy({"image": "httpd:2.4"}) == "IfNotPresent"
    assert pull_policy({"image": "httpd", "imagePullPolicy": "Never"}) == "Never"
    import base64

    auths = b'{"auths":{"https://r.example/v2/":{"auth":"dTpw"},"r.example/team":{"username":"t","password":"q"}}}'
    secret = {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": base64.b64encode(auths).decode()}}
    assert [c["username"] for c in credentials([secret], "r.example/team/app:1")] == ["t", "u"]
    assert credentials([secret], "docker.io/x") == []


def test_containerd_config_is_toml() -> None:
    made = tomllib.loads(render_config(config(), Path("/usr/lib/cni"), "overlayfs"))
    cri = made["plugins"]["io.containerd.grpc.v1.cri"]
    assert made["grpc"]["address"] == "/x/r/containerd.sock" and cri["restrict_oom_score_adj"] is True
    hosts = registry_hosts(config(mirrors={"docker.io": ("http://127.0.0.1:5000",)}, insecure_registries=("h:1",)))
    assert tomllib.loads(hosts["docker.io"])["host"]["http://127.0.0.1:5000"]["capabilities"] == ["pull", "resolve"]
    assert tomllib.loads(hosts["h:1"])["server"] == "http://h:1"


def test_bad_configurations_say_what_to_do() -> None:
    for more in ({"pod_cidr": "nonsense"}, {"bridge": "x" * 16}, {"pod_cidr": "10.0.0.0/30"}):
        with pytest.raises(NodeError):
            config(**more).check()
    with pytest.raises(NodeError, match="too long"):
        NodeConfig(client=FakeApi().client(), data_dir=Path("/d"), run_dir=Path("/" + "x" * 90)).check()


def test_network_texts() -> None:
    assert '"subnet": "10.244.0.0/24"' in cni_config(config()) and "masquerade" in rules(config())
    # A second Stablehand on the machine, on a bridge of its own, must not replace the first one's rules.
    assert "table ip stablehand_node {" in rules(config())
    assert "table ip other0_node {" in rules(config(bridge="other0"))
    assert "stablehand_node" not in rules(config(bridge="other0"))
    ports = [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP"}]
    pod = make_pod(containers=[container("c", ports=ports)])
    ports.append({"containerPort": 81, "hostPort": 8080, "hostIP": "127.0.0.2"})
    ports.append({"containerPort": 82, "hostPort": 8080, "hostIP": "::1"})
    found = host_ports(pod)
    assert found == [HostPort("tcp", "", 8080, 80), HostPort("udp", "", 53, 53), HostPort("tcp", "127.0.0.2", 8080, 81)]
    assert found[0].element() == ("hostports", "tcp . 8080")
    assert found[2].element() == ("hostaddresses", "127.0.0.2 . tcp . 8080")
    pod["spec"]["hostNetwork"] = True
    assert host_ports(pod) == []


def test_names_and_dns() -> None:
    pod = make_pod(hostname="web-0", subdomain="web", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}])
    text = hosts_file(config(), pod, "10.0.0.5")
    assert "10.0.0.5\tweb-0.web.ns.svc.cluster.local\tweb-0\n" in text and "1.2.3.4\ta\tb\n" in text
    assert hostname(config(), pod) == "web-0"
    pod["spec"]["setHostnameAsFQDN"] = True
    assert hostname(config(), pod) == "web-0.web.ns.svc.cluster.local"
    made = dns_config(config(), pod)
    assert list(made.servers) == ["10.96.0.10"] and made.searches[0] == "ns.svc.cluster.local"
    assert list(made.options) == ["ndots:5"]
    extra = {"nameservers": ["9.9.9.9"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}]}
    made = dns_config(config(), make_pod(dnsPolicy="None", dnsConfig=extra))
    assert (list(made.servers), list(made.searches), list(made.options)) == (["9.9.9.9"], ["x"], ["ndots:2"])


def test_sandbox_and_container_configs() -> None:
    security = {"runAsUser": 5, "capabilities": {"add": ["NET_ADMIN"]}, "allowPrivilegeEscalation": False}
    pod = make_pod(
        containers=[container("c", command=["$(A)"], securityContext=security)],
        securityContext={"fsGroup": 7, "sysctls": [{"name": "net.core.somaxconn", "value": "9"}]},
        shareProcessNamespace=True,
    )
    made = sandbox_config(config(), pod, 2)
    assert made.metadata.attempt == 2 and made.linux.sysctls["net.core.somaxconn"] == "9"
    assert made.linux.security_context.namespace_options.pid == pb.POD
    assert made.labels["io.kubernetes.pod.uid"] == "u1" and made.labels["app"] == "web"
    one = container_config(
        pod, pod["spec"]["containers"][0], attempt=1, image="sha", env={"A": "run"}, mounts=[], memory_capacity=1 << 30
    )
    assert list(one.command) == ["run"] and one.log_path == "c/1.log"
    context = one.linux.security_context
    assert context.run_as_user.value == 5 and context.no_new_privs and list(context.supplemental_groups) == [7]
    assert "/proc/kcore" in context.masked_paths


def test_non_root_is_checked() -> None:
    pod = make_pod(containers=[container("c")], securityContext={"runAsNonRoot": True})
    with pytest.raises(ConfigError, match="image will run as root"):
        check_user(pod, pod["spec"]["containers"][0], pb.Image(uid=pb.Int64Value(value=0)))
    with pytest.raises(ConfigError, match=r"non-numeric user \(www\)"):
        check_user(pod, pod["spec"]["containers"][0], pb.Image(username="www"))
    check_user(pod, pod["spec"]["containers"][0], pb.Image(uid=pb.Int64Value(value=9)))


def test_resources() -> None:
    limits = {"cpu": "500m", "memory": "64Mi"}
    pod = make_pod(containers=[container("c", resources={"limits": limits})])
    made = container_resources(pod, pod["spec"]["containers"][0], 1 << 30)
    assert (made.cpu_quota, made.cpu_shares, made.memory_limit_in_bytes) == (50_000, 512, 64 << 20)
    assert qos_class(pod) == "Guaranteed" and made.oom_score_adj == -997
    assert qos_class(make_pod()) == "BestEffort"
    burst = make_pod(containers=[container("c", resources={"requests": {"cpu": "1"}})])
    assert qos_class(burst) == "Burstable"


def test_what_is_ignored_is_told() -> None:
    pod = make_pod(resourceClaims=[{"name": "gpu"}])
    assert len(unsupported_fields(pod)) == 1
    assert unsupported_fields(make_pod()) == []
