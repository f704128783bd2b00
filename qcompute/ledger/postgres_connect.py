"""Connections to Postgres: where to, with which password, and what each session is told before it works."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8Dumper
from pydantic import SecretStr
from sqlalchemy import Engine, NullPool, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from qcompute.connections import credentials
from qcompute.errors import ConfigError
from qcompute.ledger.settings import LedgerSettings

_log = logging.getLogger(__name__)

_SCHEMES: Final = ("postgresql://", "postgres://")

OLDEST_SERVER: Final = 140_000
"""Postgres 14, the first that notices by itself that its client is gone while a statement runs."""

SILENT_PEER_MS: Final = 4000
"""Either side gives a peer up that has been silent for so long, a machine cut off, say: a lock must not outlive its
holder by more than the five seconds in which a standby takes over."""

STILL_WRITER_MS: Final = 2000
"""A writer that stops in mid-transaction (SIGSTOP, a machine cut off) keeps its rows from the others for so long, less
than its lease: see `qcompute.ledger.lease`."""

_KEEPALIVES: Final = {"keepalives_idle": "2", "keepalives_interval": "1", "keepalives_count": "2"}

_LONGEST_NAME: Final = 50
"""Postgres cuts the whole off after 63 bytes."""

_LIBPQ_DEFAULTS: Final = {
    "connect_timeout": "5",
    "tcp_user_timeout": str(SILENT_PEER_MS),
    "client_encoding": "UTF8",
    **_KEEPALIVES,
}
"""What the URL may set otherwise."""


def connection_parameters(settings: LedgerSettings) -> dict[str, Any]:
    """What libpq is given, the password among it: never to be shown.

    Raises:
        ConfigError: the URL or the password's name will not do; the message shows neither.
    """
    url = SecretStr("") if settings.url is None else settings.url
    given = _parsed(url.get_secret_value().strip())
    if settings.password_secret is not None:
        if "password" in given:
            raise ConfigError("the password is in ledger.url and in ledger.password_secret: leave one out")
        given["password"] = credentials.named(settings.password_secret).reveal()
    name = given.get("application_name") or f"qcompute {socket.gethostname()} {os.getpid()}"
    return {**_LIBPQ_DEFAULTS, **given, "application_name": _distinct(name)}


def _distinct(name: str) -> str:
    """A name no other ledger that is open anywhere has: by it all sessions of one are found, and ended."""
    return f"{name.encode('ascii', 'replace').decode()[:_LONGEST_NAME]} {secrets.token_hex(4)}"


def _parsed(url: str) -> dict[str, Any]:
    if not url.startswith(_SCHEMES):
        raise ConfigError("ledger.url must begin with postgresql:// (for a file on this machine there is ledger.path)")
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # libpq's own words quote what it did not understand, which may be the password.
        given = None
    if given is None or any("@" in str(value) for key, value in given.items() if key in ("host", "port", "dbname")):
        raise ConfigError(
            "ledger.url cannot be read: write postgresql://user@host:5432/database, percent-encode what is special in "
            "user and password (an @ is %40), or give the password with ledger.password_secret"
        )
    if not given.get("dbname"):
        raise ConfigError("ledger.url names no database: postgresql://user@host:5432/DATABASE")
    return dict(given)


def place_of(parameters: dict[str, Any]) -> str:
    """The database as messages may name it."""
    host = parameters.get("host") or parameters.get("hostaddr") or "the local socket"
    return f"database {parameters.get('dbname')} on {host}"


def writing_engine(parameters: dict[str, Any], settings: LedgerSettings) -> Engine:
    """For the one connection that writes."""
    return _engine(parameters, settings, {})


def reading_engine(parameters: dict[str, Any], settings: LedgerSettings) -> Engine:
    """For connections that each see what is committed when a statement starts."""
    return _engine(parameters, settings, {"default_transaction_read_only": "on"}, isolation_level="AUTOCOMMIT")


STILL_READER_SECONDS: Final = 60
"""How long a look at the ledger may stand still: while it lasts the server keeps every version of every row."""


def looking_engine(parameters: dict[str, Any], settings: LedgerSettings) -> Engine:
    """For connections whose transactions each see one moment's ledger and cannot write."""
    further = {
        "default_transaction_read_only": "on",
        "idle_in_transaction_session_timeout": f"{STILL_READER_SECONDS}s",
        # Sorting a long ledger may take its time; who no longer waits for it closes the connection.
        "statement_timeout": "10min",
        # These questions are asked once each, and no index serves them all.
        "plan_cache_mode": "auto",
        "enable_seqscan": "on",
    }
    engine = _engine(parameters, settings, further, isolation_level="REPEATABLE READ")
    return engine.execution_options(postgresql_readonly=True)


def _engine(parameters: dict[str, Any], settings: LedgerSettings, further: dict[str, str], **options: str) -> Engine:
    engine = create_engine(
        # All is in the parameters, so that nothing of SQLAlchemy's knows a password to print.
        "postgresql+psycopg://",
        connect_args=parameters,
        # Parameters hold jobs; an error text must not.
        hide_parameters=True,
        # Each thread keeps its one connection for as long as it lives.
        poolclass=NullPool,
        use_native_hstore=False,
        **options,
    )
    told = _session(settings) | further

    def prepare(connection: DBAPIConnection, _record: object) -> None:
        driver: Any = connection
        tell_session(driver, told)

    event.listen(engine, "connect", prepare)
    return engine


def _session(settings: LedgerSettings) -> dict[str, str]:
    return {
        # A commit is on the server's disk when it returns, whatever the server's default is.
        "synchronous_commit": "on",
        "lock_timeout": str(round(settings.busy_timeout_seconds * 1000)),
        "idle_in_transaction_session_timeout": str(STILL_WRITER_MS),
        "statement_timeout": "60s",
        # Plans are made once for all parameters, and some of them while a table is still empty: that must not make
        # them read it as a whole for ever.
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "jit": "off",
    }


_SERVER_SIDE: Final = {
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": str(SILENT_PEER_MS),
    "client_connection_check_interval": "1s",
    "timezone": "UTC",
}
"""How the server finds out that this process is gone."""


def tell_session(connection: psycopg.Connection[Any], told: dict[str, str]) -> None:
    """Set parameters of a new session, and how numbers are sent.

    Raises:
        ConfigError: the server is too old.
    """
    if connection.info.server_version < OLDEST_SERVER:
        raise ConfigError("the server of ledger.url is older than Postgres 14; take a newer one")
    # One size for all numbers: psycopg would otherwise prepare a statement anew for each mixture of sizes.
    connection.adapters.register_dumper(int, Int8Dumper)
    # One by one with names and values from here, so there is nothing to quote.
    all_told = _SERVER_SIDE | told
    calls = ", ".join(["set_config(%s, %s, false)"] * len(all_told))
    connection.execute(f"SELECT {calls}".encode(), [word for pair in all_told.items() for word in pair])
    connection.commit()


def warn_of(connection: psycopg.Connection[Any], place: str) -> None:
    """Tell the operator of a server that may lose, or show, what it is given."""
    row = connection.execute("SELECT current_setting('fsync'), current_setting('full_page_writes')").fetchone()
    if row is not None and "off" in row:
        _log.warning(
            "%s runs with fsync or full_page_writes off: a power cut there may lose jobs that were paid",
            place,
            extra={"action": "ledger_unsafe"},
        )
    host = connection.info.hostaddr
    if host and not connection.pgconn.ssl_in_use and not host.startswith(("127.", "::1")):
        _log.warning(
            "the connection to %s is not encrypted: add sslmode=verify-full to ledger.url",
            place,
            extra={"action": "ledger_unencrypted"},
        )


def check_server(connection: psycopg.Connection[Any], place: str) -> None:
    """Refuse a server the ledger cannot live on.

    Raises:
        ConfigError: it cannot hold every text, or cannot be written to.
    """
    row = connection.execute("SELECT current_setting('server_encoding'), pg_is_in_recovery()").fetchone()
    if row is None or row[0] != "UTF8":
        raise ConfigError(f"{place} is not encoded in UTF-8: create it with ENCODING 'UTF8' TEMPLATE template0")
    if row[1]:
        raise ConfigError(f"{place} is a standby, which cannot be written to: give the primary with ledger.url")
