"""The names that settings sort into environments: repositories, and namespaces where something runs or ran."""

from sqlalchemy import Connection, select

from tidewaiter.catalog import schema


def repositories(connection: Connection) -> tuple[str, ...]:
    """Of the store and of registries that were synced, by name."""
    return tuple(connection.scalars(select(schema.repository.c.name).order_by(schema.repository.c.name)))


def namespaces(connection: Connection) -> tuple[tuple[str, str], ...]:
    """Cluster and namespace, by name."""
    of = schema.workload.c
    query = select(of.cluster, of.namespace).distinct().order_by(of.cluster, of.namespace)
    return tuple((row.cluster, row.namespace) for row in connection.execute(query))
