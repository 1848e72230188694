"""Finds and reads kubeconfig files and in-cluster credentials. Writes none (the launcher does)."""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from stablehand.client.errors import ConfigError
from stablehand.machinery.types import Obj

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(slots=True)
class Access:
    """Where a server is and how to prove who we are. `token_file` is read again when it changes."""

    server: str
    ssl: ssl.SSLContext | None = None
    token: str = ""
    token_file: str = ""
    basic: tuple[str, str] | None = None
    namespace: str = "default"


def load_kubeconfig(path: str | None = None, context: str | None = None) -> Access:
    """Access from `path`, else $KUBECONFIG, else in-cluster credentials, else ~/.kube/config. Raises ConfigError."""
    candidates = [path] if path else [p for p in os.environ.get("KUBECONFIG", "").split(":") if p]
    if not candidates:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT_DIR / "token").exists():
            return in_cluster()
        candidates = [str(Path.home() / ".kube" / "config")]
    for candidate in candidates:
        try:
            text = Path(candidate).read_bytes()
        except OSError as e:
            if path:
                raise ConfigError(f"cannot read kubeconfig {candidate}: {e.strerror}") from e
            continue
        try:
            config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
        except yaml.YAMLError as e:
            at = getattr(e, "problem_mark", None)
            line = f" (line {at.line + 1})" if at is not None else ""
            raise ConfigError(f"kubeconfig {candidate} is not YAML{line}") from e
        try:
            return _access(config, candidate, context)
        except (AttributeError, KeyError, TypeError, ValueError, OSError) as e:  # ssl.SSLError is an OSError
            raise ConfigError(f"kubeconfig {candidate} cannot be used: {_why(e)}") from e
    raise ConfigError(
        f"no kubeconfig: none of {', '.join(candidates)} exists; give --kubeconfig, or start `stablehand up` first"
    )


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"an entry lacks {error}"
    if isinstance(error, AttributeError | TypeError):
        return "it is no kubeconfig"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return f"its certificates or keys are damaged ({error})"


def in_cluster() -> Access:
    """Credentials that a pod's service account mount gives."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    context = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT_DIR / "ca.crt"))
    namespace = (SERVICE_ACCOUNT_DIR / "namespace").read_text().strip()
    host = f"[{host}]" if ":" in host else host
    return Access(f"https://{host}:{port}", context, token_file=str(SERVICE_ACCOUNT_DIR / "token"), namespace=namespace)


def _named(config: Obj, plural: str, singular: str, name: str, where: str) -> Obj:
    for entry in config.get(plural) or ():
        if entry.get("name") == name:
            return entry.get(singular) or {}
    raise ConfigError(f"kubeconfig {where} has no {singular} {name!r}")


def _access(config: Obj, where: str, context: str | None) -> Access:
    current = context or config.get("current-context")
    if not current:
        raise ConfigError(f"kubeconfig {where} has no current-context")
    ctx = _named(config, "contexts", "context", current, where)
    cluster = _named(config, "clusters", "cluster", ctx.get("cluster", ""), where)
    user = _named(config, "users", "user", ctx["user"], where) if ctx.get("user") else {}
    server = str(cluster.get("server") or "").rstrip("/")
    if not server:
        raise ConfigError(f"kubeconfig {where}: cluster {ctx.get('cluster')!r} names no server")
    base = Path(where).resolve().parent
    access = Access(server, namespace=ctx.get("namespace") or "default")
    if server.startswith("https"):
        access.ssl = _tls(cluster, user, base)
    access.token = user.get("token") or ""
    if user.get("tokenFile"):
        access.token_file = str(base / user["tokenFile"])
    if user.get("username"):
        access.basic = (user["username"], user.get("password") or "")
    if user.get("exec") or user.get("auth-provider"):
        raise ConfigError(
            f"kubeconfig {where}: exec and auth-provider credentials are not supported; use a token or certificate"
        )
    return access


def _decoded(text: str) -> bytes:
    """Base64 that may be broken into lines. Raises ValueError for anything else, and for nothing."""
    data = base64.b64decode("".join(text.split()), validate=True)
    if not data:
        raise ValueError("empty")
    return data


def _tls(cluster: Obj, user: Obj, base: Path) -> ssl.SSLContext:
    ca_data = cluster.get("certificate-authority-data")
    if ca_data:
        context = ssl.create_default_context(cadata=_decoded(ca_data).decode())
    elif cluster.get("certificate-authority"):
        context = ssl.create_default_context(cafile=str(base / cluster["certificate-authority"]))
    else:
        context = ssl.create_default_context()
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if user.get("client-certificate-data") and user.get("client-key-data"):
        # ssl can load a chain from files only; these live for the time of the call, readable by this user alone.
        with tempfile.TemporaryDirectory() as folder:
            cert, key = Path(folder) / "crt", Path(folder) / "key"
            cert.write_bytes(_decoded(user["client-certificate-data"]))
            key.touch(0o600)
            key.write_bytes(_decoded(user["client-key-data"]))
            context.load_cert_chain(cert, key)
    elif user.get("client-certificate"):
        context.load_cert_chain(base / user["client-certificate"], base / user["client-key"])
    return context
