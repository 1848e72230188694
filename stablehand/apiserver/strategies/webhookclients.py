"""How a webhook is reached: checks of URLs, Services and CA bundles, for admission hooks and for CRDs' conversion.

Follows apiserver pkg/util/webhook/validation.go. Calling webhooks is apiserver.outbound's.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

from stablehand.machinery import names
from stablehand.machinery.fielderrors import FieldError, invalid, required
from stablehand.machinery.types import Obj

_FORM = "; desired format: https://host[/path]"
_ONE_OF = "exactly one of url or service is required"


def check_client(config: Obj, path: str) -> list[FieldError]:
    """A webhook's clientConfig but for its caBundle, which a running server may be given later."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [required(path, _ONE_OF)]
    return _url(url, f"{path}.url") if url is not None else _service(service or {}, f"{path}.service")


def _url(text: str, path: str) -> list[FieldError]:
    try:
        url = urlsplit(text)
    except ValueError as e:
        return [required(path, f'url must be a valid URL: parse "{text}": {e}{_FORM}')]
    errors = []
    if url.scheme != "https":
        errors.append(invalid(path, url.scheme, f"'https' is the only allowed URL scheme{_FORM}"))
    if not url.netloc:
        errors.append(invalid(path, "", f"host must be specified{_FORM}"))
    if "@" in url.netloc:
        errors.append(invalid(path, url.netloc.rpartition("@")[0], "user information is not permitted in the URL"))
    if url.fragment:
        errors.append(invalid(path, url.fragment, "fragments are not permitted in the URL"))
    if url.query:
        errors.append(invalid(path, url.query, "query parameters are not permitted in the URL"))
    return errors


def _service(service: Obj, path: str) -> list[FieldError]:
    errors = [
        required(f"{path}.{key}", f"service {key} is required") for key in ("name", "namespace") if not service.get(key)
    ]
    port = service.get("port", 443)
    if wrong := names.port_number(port):
        errors.append(invalid(f"{path}.port", port, f"port is not valid: {','.join(wrong)}"))
    url_path = service.get("path")
    if url_path is not None and url_path not in ("", "/"):
        errors.extend(_path(url_path, f"{path}.path"))
    return errors


def _path(text: str, path: str) -> list[FieldError]:
    if text == "//":
        return [invalid(path, text, "segment[0] may not be empty")]
    errors = [] if text.startswith("/") else [invalid(path, text, "must start with a '/'")]
    for index, step in enumerate(text[1:].removesuffix("/").split("/")):
        if not step:
            errors.append(invalid(path, text, f"segment[{index}] may not be empty"))
        else:
            errors.extend(invalid(path, text, f"segment[{index}]: {why}") for why in names.dns1123_subdomain(step))
    return errors


def check_bundle(bundle: str, path: str) -> list[FieldError]:
    """A caBundle (base64 of PEM) has a certificate."""
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(base64.b64decode(bundle))
    except (ValueError, binascii.Error):
        why = "unable to load root certificates: unable to parse bytes as PEM block"
        return [invalid(path, bundle, why)]
    return []
