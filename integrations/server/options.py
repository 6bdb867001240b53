"""The options in the URL of a server: which there are, and what each may be.

They are named as redis-py names them, and mean the same for records and broker. Each reader raises ValueError with the
rest of a sentence that begins with the option's name, and never repeats what was written.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

_LONGEST_TIMEOUT = 300
_CERTIFICATE = {
    "required": ssl.CERT_REQUIRED,
    "cert_required": ssl.CERT_REQUIRED,
    # For a client the two are the same: a server always shows a certificate.
    "optional": ssl.CERT_REQUIRED,
    "cert_optional": ssl.CERT_REQUIRED,
    "none": ssl.CERT_NONE,
    "cert_none": ssl.CERT_NONE,
}
_YES = {"true": True, "yes": True, "y": True, "on": True, "1": True}
_NO = {"false": False, "no": False, "n": False, "off": False, "0": False}


def read_options(query: str, *, with_tls: bool, with_sentinel: bool = False) -> dict[str, Any]:
    """What stands behind the question mark of a URL, by name. Raises ValueError with a whole sentence."""
    found: dict[str, Any] = {}
    for given, value in parse_qsl(query, keep_blank_values=True):
        name = _ALIASES.get(given, given)
        if name not in _OPTIONS:
            raise ValueError(_unknown(given))
        if name in found:
            raise ValueError(f"the option {name} is given twice; keep one")
        if name.startswith("ssl_") and not with_tls:
            raise ValueError(f"the option {name} is for TLS, which needs rediss:// in front")
        if name in _FOR_SENTINEL and not with_sentinel:
            raise ValueError(f"the option {name} is for Sentinel, which needs redis+sentinel:// in front")
        if not value:
            raise ValueError(f"the option {name} has no value; give it one or leave it out")
        try:
            found[name] = _OPTIONS[name](value)
        except ValueError as error:
            raise ValueError(f"the option {name} {error}") from None
    return found


def read_tls(given: dict[str, Any]) -> dict[str, Any]:
    """All that is said about TLS. Raises ValueError if the parts do not go together."""
    tls = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **given}
    if tls["ssl_cert_reqs"] == ssl.CERT_NONE:
        if given.get("ssl_check_hostname"):
            raise ValueError("ssl_cert_reqs=none verifies nothing, so ssl_check_hostname=true cannot hold; keep one")
        tls["ssl_check_hostname"] = False
    if "ssl_keyfile" in tls and "ssl_certfile" not in tls:
        raise ValueError("ssl_keyfile is given without ssl_certfile; name the certificate it belongs to")
    if "ssl_certfile" in tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_cert_chain(tls["ssl_certfile"], tls.get("ssl_keyfile"), tls.get("ssl_password", ""))
        except (ssl.SSLError, OSError):
            raise ValueError(
                "ssl_certfile and ssl_keyfile are no certificate and its private key in PEM form, "
                "or the key needs ssl_password"
            ) from None
    if "ssl_ciphers" in tls:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(tls["ssl_ciphers"])
        except ssl.SSLError:
            raise ValueError("ssl_ciphers names no cipher that OpenSSL knows") from None
    return tls


def _unknown(name: str) -> str:
    # Only what looks like a name is repeated: an unencoded & in a password makes an option of its rest.
    if name in _USELESS:
        return f"the option {name} cannot be used here: {_USELESS[name]}"
    if re.fullmatch(r"(ssl|socket|redis|retry|health|client)[a-z_]{1,40}", name, re.ASCII):
        return f"there is no option {name}; known are {', '.join(sorted(_OPTIONS))}"
    return (
        f"an option in it is not known (known are {', '.join(sorted(_OPTIONS))}); "
        "if it is part of a password, percent-encode & as %26 and ? as %3F"
    )


def _text(value: str) -> str:
    return value


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value, re.ASCII) or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return read


def _seconds(value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value, re.ASCII) or not 1 <= float(value) <= _LONGEST_TIMEOUT:
        raise ValueError(f"must be a number of seconds from 1 to {_LONGEST_TIMEOUT}")
    return float(value)


def _truth(value: str) -> bool:
    answer = {**_YES, **_NO}.get(value.lower())
    if answer is None:
        raise ValueError("must be true or false")
    return answer


def _certificate(value: str) -> ssl.VerifyMode:
    mode = _CERTIFICATE.get(value.lower())
    if mode is None:
        raise ValueError("must be required or none (in Celery's spelling, CERT_REQUIRED or CERT_NONE)")
    return mode


def _file(value: str) -> str:
    path = Path(value)
    if not path.is_absolute():
        raise ValueError("must be an absolute path, since processes run in different folders")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(
            f"names a file that cannot be read ({error.strerror}); check the path and who may read it"
        ) from None
    return value


def authorities(value: str) -> str:
    """The path of a file with certificates in PEM form. Raises ValueError if it is none."""
    _file(value)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=value)
    except (ssl.SSLError, OSError):
        raise ValueError("names a file without certificates in PEM form; name the authority's certificate") from None
    return value


def _folder(value: str) -> str:
    if not Path(value).is_absolute() or not Path(value).is_dir():
        raise ValueError("must be the absolute path of a folder with certificates")
    return value


def _tls_version(value: str) -> int:
    version = {"tlsv1.2": 771, "tlsv1_2": 771, "1.2": 771, "771": 771}.get(value.lower())
    version = version or {"tlsv1.3": 772, "tlsv1_3": 772, "1.3": 772, "772": 772}.get(value.lower())
    if version is None:
        raise ValueError("must be TLSv1.2 or TLSv1.3")
    return version


def _name(value: str) -> str:
    if not re.fullmatch(r"[!-~]{1,100}", value, re.ASCII):
        raise ValueError("must be a short name without spaces")
    return value


_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "client_name": _name,
    "db": _number(0, 999_999),
    "master": _name,
    "health_check_interval": _number(0, 3600),
    "password": _text,
    "protocol": _number(2, 3),
    "retry_on_timeout": _truth,
    "sentinel_password": _text,
    "sentinel_username": _text,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _truth,
    "socket_timeout": _seconds,
    "ssl_ca_certs": authorities,
    "ssl_ca_path": _folder,
    "ssl_cert_reqs": _certificate,
    "ssl_certfile": _file,
    "ssl_check_hostname": _truth,
    "ssl_ciphers": _text,
    "ssl_keyfile": _file,
    "ssl_min_version": _tls_version,
    "ssl_password": _text,
    "username": _text,
}
_FOR_SENTINEL = frozenset({"master", "sentinel_password", "sentinel_username"})
_ALIASES = {"virtual_host": "db", "master_name": "master"}  # as Kombu calls them
_USELESS = {
    "connection_class": "the scheme in front says how to connect",
    "decode_responses": "it is set by whoever reads the answers",
    "max_connections": "each process opens what it needs; set OCC_CONCURRENCY for fewer",
    "retry_on_error": "lost connections are always dialled anew",
    "ssl": "write rediss:// in front for TLS",
    "ssl_ca_data": "name a file with ssl_ca_certs",
    "timeout": "write socket_timeout",
    "visibility_timeout": "it follows from OCC_LEASE",
}
