"""Who a lab is inside its PostgreSQL servers, and the script that PGO runs there once as superuser."""

from collections.abc import Sequence

from datalabd.stores import APPLICATION_ROLES

OWNER = "datalab_owner"
"""Owns what either of them makes. PGO allows no `_` in users, so that no member of a lab can be called this."""

_PREAMBLE = ("\\set ON_ERROR_STOP on", "\\connect postgres")


def init_sql(databases: Sequence[str], superuser: bool) -> str:
    """The psql script of a server with these databases, all of which exist; repeating it does no harm.

    For a superuser's lab it does nothing. Otherwise each application role is the owner role from the moment it logs
    in: whatever the one makes the other may use, change and drop. The superuser loses its password, as PGO itself
    comes in by the socket; what had been made as superuser before stays the superuser's.
    """
    lines = (
        [*_PREAMBLE] if superuser else [*_PREAMBLE, *_roles(), *(line for name in databases for line in _inside(name))]
    )
    return "".join(f"{line}\n" for line in lines)


def _roles() -> list[str]:
    roles = ", ".join(_identifier(role) for role in APPLICATION_ROLES)
    return [
        "SET search_path TO '';",
        f"SELECT 'CREATE ROLE {OWNER}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OWNER}') \\gexec",
        *(
            f"ALTER ROLE {_identifier(role)} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;"
            for role in (OWNER, *APPLICATION_ROLES)
        ),
        f"ALTER ROLE {OWNER} NOLOGIN;",
        f"GRANT {OWNER} TO {roles};",
        *(f"ALTER ROLE {_identifier(role)} SET role TO '{OWNER}';" for role in APPLICATION_ROLES),
        "ALTER ROLE postgres PASSWORD NULL;",
    ]


def _inside(database: str) -> list[str]:
    """Since PostgreSQL 15 only a database's owner, which is PGO's superuser, may create in its schema `public`.

    A session that says SET ROLE NONE makes things of its own; those are handed over whenever this runs.
    """
    roles = ", ".join(_identifier(role) for role in APPLICATION_ROLES)
    return [
        f"\\connect {_identifier(database)}",
        "SET search_path TO '';",
        f"GRANT ALL ON DATABASE {_identifier(database)} TO {OWNER};",
        f"SELECT 'GRANT ALL ON SCHEMA public TO {OWNER}' FROM pg_namespace WHERE nspname = 'public' \\gexec",
        f"REASSIGN OWNED BY {roles} TO {OWNER};",
    ]


def _identifier(name: str) -> str:
    """The name as SQL and psql's \\connect take it, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'
