"""A cluster of engines that others keep, on one machine: `make cluster` shows it running, and `make chaos` breaks it.

- `engines`: three nodes of etcd, Patroni and PostgreSQL, with HAProxy and PgBouncer in front
- `deployment`: two web servers, worker and beat on them
- `__main__`: `make cluster`
- `trials`: what `make chaos ARGS=cluster` does to it

The files that configure the engines are in deploy/cluster; docs/how-to/high-availability.md explains them.
"""
