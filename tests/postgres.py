"""A real PostgreSQL server for as long as it is needed: for tests and benchmarks."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

UNPRIVILEGED_USER = "nobody"


def postgres_binary(name: str) -> str | None:
    """Path of a PostgreSQL server binary; Debian keeps them off the PATH."""
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(candidates[0]) if candidates else shutil.which(name)


@contextmanager
def running_postgres(*, durable: bool = False, settings: Mapping[str, str] | None = None) -> Iterator[str | None]:
    """Starts a server in a temporary folder; it is gone at the end.

    Args:
        durable: commits wait for the disk. Tests do without, which is much faster.
        settings: of ``postgresql.conf``.

    Yields:
        URL of its empty database ``test``; None where PostgreSQL is not installed.
    """
    import testing.postgresql

    initdb, postgres = postgres_binary("initdb"), postgres_binary("postgres")
    if initdb is None or postgres is None:
        yield None
        return
    # Not in pytest's own folder, which is closed to the unprivileged user.
    folder = Path(tempfile.mkdtemp(prefix="modyn-postgres-"))
    folder.chmod(0o755)
    base = folder / "base"
    base.mkdir()
    if os.geteuid() == 0:
        initdb, postgres = _wrapper(folder, initdb), _wrapper(folder, postgres)
    arguments = ["-h 127.0.0.1", *([] if durable else ["-F"]), "-c logging_collector=off"]
    arguments += [f"-c {name}={value}" for name, value in (settings or {}).items()]
    server = testing.postgresql.Postgresql(
        initdb=initdb, postgres=postgres, base_dir=str(base), postgres_args=" ".join(arguments)
    )
    try:
        yield server.url()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _wrapper(folder: Path, binary: str) -> str:
    """A script that runs a PostgreSQL binary as an unprivileged user, because it refuses to run as root."""
    user = pwd.getpwnam(UNPRIVILEGED_USER)
    script = folder / f"as_user_{Path(binary).name}"
    script.write_text(
        "#!/bin/sh\n"
        f"chown -R {user.pw_uid}:{user.pw_gid} {folder}/base\n"
        f'exec setpriv --reuid={user.pw_uid} --regid={user.pw_gid} --clear-groups "{binary}" "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return str(script)
