"""Root certificates and token, read again for every connection. These calls block: use a thread."""

from __future__ import annotations

import ssl
from pathlib import Path

from kmesh.core.options import SYSTEM, XdsOptions
from kmesh.tasks.ending import Ended


def _read(path: str, what: str, next_step: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError as error:
        raise Ended(
            "credentials", f"{what} {path}: {(error.strerror or str(error)).lower()}", next_step
        ) from error
    except UnicodeDecodeError as error:
        raise Ended("credentials", f"{what} {path} is not ASCII text", next_step) from error


def tls_context(options: XdsOptions) -> ssl.SSLContext:
    """Verifying client context that offers h2; raises Ended naming a file that cannot be used."""
    root = options.root_ca
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    older = options.tls12
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if older else ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    if root == SYSTEM:
        context.load_default_certs()
        return context
    step = "Mount the root certificate there or set XDS_ROOT_CA; it is read again at each attempt."
    inline = "-----BEGIN" in root
    pem = root if inline else _read(root, "root certificate", step)
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        where = "XDS_ROOT_CA" if inline else f"root certificate {root}"
        raise Ended("credentials", f"{where} holds no usable PEM certificate", step) from error
    return context


def token(options: XdsOptions) -> str:
    """The bearer token, empty when there is none.

    Never read for plaintext: a credential does not cross the network in the clear. Raises Ended
    for a file that is missing or holds no token.
    """
    if not options.target.tls or not options.token:
        return ""
    step = "Mount the token there, or set AUTH_TOKEN (empty for none); it is read again each time."
    from_file = "/" in options.token
    text = _read(options.token, "token", step) if from_file else options.token
    text = text.strip()
    if not text or any(char.isspace() for char in text):
        where = f"token {options.token}" if from_file else "AUTH_TOKEN"
        raise Ended("credentials", f"{where} holds no single word", step)
    return text


def root_expiry(options: XdsOptions) -> float | None:
    """When the first of the root certificates ends, seconds since the epoch; None for those of the
    system, for plaintext, and when they cannot be read (which the stream itself reports)."""
    if not options.target.tls or options.root_ca == SYSTEM:
        return None
    try:
        certificates = tls_context(options).get_ca_certs()
    except Ended:
        return None
    ends = [ssl.cert_time_to_seconds(str(each["notAfter"])) for each in certificates]
    return min(ends, default=None)
