"""A real Postgres for the tests: one server for a test run, one database for each test, all on loopback.

The server is Debian's ``postgresql-15`` (or any other from 14 on). It runs as the user ``nobody`` when the tests run as
root, because it refuses to run as root. `shared_server` is shared by all tests of a process and never synced to disk;
`PostgresServer` is for those that stop, kill or reconfigure one of their own.
"""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg
from sqlalchemy import NullPool, create_engine

from qcompute.ledger import migrations
from qcompute.ledger.schema import metadata

PASSWORD: Final = "p@:/?#[]%&=+ w$'\"\\ö"
"""The password of every test: all that a URL gives a meaning to, and what shells and SQL do."""

USER: Final = "miner"
START_SECONDS: Final = 60.0
_DEBIAN: Final = Path("/usr/lib/postgresql")
_OLDEST: Final = 14


class NoPostgres(Exception):
    """There is no server to test with."""


@cache
def programs() -> Path:
    """The folder of ``initdb`` and ``postgres``.

    Raises:
        NoPostgres: none is installed; the tests that need one fail with this.
    """
    versions = (folder for folder in _DEBIAN.glob("*/bin") if folder.parent.name.isdecimal())
    for folder in sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True):
        if int(folder.parent.name) >= _OLDEST and (folder / "initdb").exists():
            return folder
    initdb = shutil.which("initdb")
    if initdb is None:
        raise NoPostgres("these tests need a Postgres server: run `make postgres`, which installs Debian's")
    return Path(initdb).resolve().parent


class PostgresServer:
    """A server with its own files. `start`, `stop` and `kill` may follow one another; the port stays."""

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        bin_folder = programs()
        self._bin = bin_folder
        self._options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "shared_buffers": "32MB",
            "max_connections": "200",
            "autovacuum_naptime": "5s",
            **(options or {}),
        }
        self.folder = Path(tempfile.mkdtemp(prefix="qcompute-postgres-"))
        self._user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._initialise()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        options = [argument for name, value in self._options.items() for argument in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = self._run("postgres", "-D", self._data, "-p", str(self.port), *options, output=log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Postgres did not start: {self.log()}") from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """End it in order, its connections cut off."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End it as a power cut would: what was not written to its log is gone."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        """End it and delete its files."""
        self.crash()
        shutil.rmtree(self.folder)

    def log(self) -> str:
        """Its last lines."""
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-15:])

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """A connection of the superuser, each statement a transaction."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=database,
            user=USER,
            password=PASSWORD,
            autocommit=True,
            connect_timeout=5,
        )

    def run_sql(self, database: str, *statements: str) -> list[Any]:
        """Run statements as another program would; the rows of the last one, if it has any."""
        rows: list[Any] = []
        with self.connect(database) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description is not None else []
        return rows

    def url(self, database: str) -> str:
        """The database with the password in the URL."""
        return f"postgresql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def url_without_password(self, database: str) -> str:
        """The database; the password is to be given otherwise."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def create(self, *, template: str = "template0") -> str:
        """A new database; its name."""
        name = f"ledger_{secrets.token_hex(6)}"
        self.run_sql("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, database: str) -> None:
        """Delete a database, whoever is connected to it."""
        self.run_sql("postgres", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _initialise(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(PASSWORD + "\n", encoding="utf-8")
        password_file.chmod(0o600)
        if self._user is not None:
            os.chown(password_file, self._user.pw_uid, self._user.pw_gid)
        arguments = ["-U", USER, "-A", "scram-sha-256", f"--pwfile={password_file}", "-E", "UTF8", "--locale=C.UTF-8"]
        with (self.folder / "log").open("ab") as log:
            # Syncing takes most of its time; a test that crashes its server has it start and stop once before.
            ended = self._run("initdb", "-D", self._data, "--no-sync", *arguments, output=log).wait()
        if ended != 0:
            raise RuntimeError(f"initdb failed: {self.log()}")

    def _run(self, program: str, *arguments: str, output: Any) -> subprocess.Popen[bytes]:
        # Whatever becomes of the tests, their server ends with them.
        become = ["setpriv", "--pdeathsig", "QUIT"]
        if self._user is not None:
            become += ["--reuid", str(self._user.pw_uid), "--regid", str(self._user.pw_gid), "--clear-groups"]
        return subprocess.Popen(  # noqa: S603 - programs of the system's packages
            [*become, "--", str(self._bin / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        )

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=START_SECONDS)
            self._process = None


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


_guard = threading.Lock()


@cache
def _shared() -> PostgresServer:
    server = PostgresServer({"fsync": "off", "full_page_writes": "off"})
    atexit.register(server.remove)
    server.start()
    return server


def shared_server() -> PostgresServer:
    """The server of this test run, started at its first use and removed at the end of the process."""
    with _guard:
        return _shared()


@contextmanager
def empty_database(server: PostgresServer | None = None) -> Generator[str]:
    """A database without tables on the shared server, or on another; its name."""
    server = server or shared_server()
    name = server.create()
    try:
        yield name
    finally:
        server.drop(name)


@contextmanager
def ledger_database() -> Generator[str]:
    """A database with the ledger's tables, all empty, on the shared server; its name.

    It is emptied afterwards and given to the next test: a tenth of the time a new one takes. A test that changes more
    than rows takes `own_ledger_database`.
    """
    server = shared_server()
    with _guard:
        name = _emptied.pop() if _emptied else server.create(template=_template(server))
    try:
        yield name
    finally:
        server.run_sql(name, _END_OTHERS, f"TRUNCATE {_TABLES}")
        _emptied.append(name)


@contextmanager
def own_ledger_database() -> Generator[str]:
    """Like `ledger_database`, for a test that leaves it in another shape."""
    server = shared_server()
    with _guard:
        name = server.create(template=_template(server))
    try:
        yield name
    finally:
        server.drop(name)


_emptied: Final[list[str]] = []
_TABLES: Final = ", ".join(table.name for table in metadata.sorted_tables)
_END_OTHERS: Final = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@cache
def _template(server: PostgresServer) -> str:
    name = server.create()
    parameters = {"host": "127.0.0.1", "port": server.port, "dbname": name, "user": USER, "password": PASSWORD}
    engine = create_engine("postgresql+psycopg://", connect_args=parameters, poolclass=NullPool)
    with engine.begin() as connection:
        migrations.upgrade(connection)
    engine.dispose()
    return name
