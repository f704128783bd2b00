"""Settings as people may see them: anything that may be a secret is masked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import SecretStr

MASK: Final = "***"

_SECRET = re.compile(r"key|token|secret|password|passwd|credential", re.IGNORECASE)
_NOT_SECRET = re.compile(r"hotkeys?|coldkeys?", re.IGNORECASE)


def shown(path: Sequence[str], value: object) -> str:
    """One value as text. Masked as a whole when a part of its name suggests a secret; URLs lose what they may hide."""
    return _shown(value, secret=may_be_secret(path))


def may_be_secret(path: Sequence[str]) -> bool:
    """Whether any part of a setting's name says key, token, secret or password. Hotkey names are public."""
    return any(_SECRET.search(_NOT_SECRET.sub("", part)) for part in path)


def without_url_secrets(text: str) -> str:
    """A URL without user, password, query and fragment; other text as it is.

    One with an @ behind its host is masked whole: somebody may have written a password without encoding it.
    """
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return MASK
    if "@" in parts.path + parts.query + parts.fragment:
        return f"{parts.scheme}://{MASK}"
    _, at, host = parts.netloc.rpartition("@")
    hidden = parts._replace(
        netloc=f"{MASK}@{host}" if at else parts.netloc,
        query=MASK if parts.query else "",
        fragment=MASK if parts.fragment else "",
    )
    return urlunsplit(hidden)


_URL: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_DATABASES: Final = frozenset({"postgresql://", "postgres://"})
_SECRET_PARAMETER: Final = re.compile(r"password|secret|scram", re.IGNORECASE)
"""Parameters of libpq that are secrets; ``sslkey`` and ``passfile`` name files."""


def without_password(text: str) -> str | None:
    """What may be shown of a URL and leads to the same place, given the password otherwise; other text as it is.

    Of a database the user and the parameters stay that are no secrets. Of any other URL user, query and fragment go:
    each may be a token. None where it cannot be told what in it is a password.
    """
    if "://" not in text:
        return text
    found = _URL.fullmatch(text)
    if found is None:
        return None if "@" in text or "?" in text else text
    is_database = found["scheme"].lower() in _DATABASES
    user, at, place = found["rest"].partition("@")
    if not at or any(mark in user for mark in ("/" if is_database else "/?#")):  # libpq looks for the @ before a slash
        user, place = "", found["rest"]
    if "@" in place:
        return None
    if not is_database:
        return found["scheme"] + re.split(r"[?#]", place, maxsplit=1)[0]
    user = user.partition(":")[0]
    address, mark, query = place.partition("?")
    kept = [one for one in query.split("&") if not _SECRET_PARAMETER.search(unquote(one.partition("=")[0]))]
    return f"{found['scheme']}{user}{'@' if user else ''}{address}{mark if kept else ''}{'&'.join(kept)}"


def _shown(value: object, *, secret: bool) -> str:
    if isinstance(value, Mapping):
        table = cast("Mapping[object, Any]", value)
        inside = (f"{k} = {_shown(v, secret=secret or may_be_secret([str(k)]))}" for k, v in table.items())
        return "{" + ", ".join(inside) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(_shown(item, secret=secret) for item in cast("Sequence[object]", value)) + "]"
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return f'"{without_url_secrets(text)}"' if "://" in text and not secret else MASK
    # Numbers of our own models are limits and times, such as a token's lifetime; a secret is text.
    if value is None or isinstance(value, (bool, float)):
        return str(value).lower()
    if secret and not (isinstance(value, str) and value == ""):
        return MASK
    text = without_url_secrets(str(value))
    return f'"{text}"' if isinstance(value, str) else text
