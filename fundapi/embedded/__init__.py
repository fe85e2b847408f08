"""A private PostgreSQL and Valkey for development and tests, in a directory of their own (`FUNDAPI_HOME`).

    from fundapi.embedded import services

    with services(home):  # sets DATABASE_URL and REDIS_URL where they are unset
        ...

The map:

    home       paths in the home, its locks and its secrets
    client     `services()`: join the services of a home, or start them
    keeper     the background process that runs both services as long as a process uses the home
    reach      what root's stand-in account has to reach: data outside a closed home, throw-away directories
    programs   PostgreSQL's and Valkey's programs: the packages', or copies that the account may run
    sockets    the directory of the services' sockets: in the home, or a temporary one when that path is too long
    postgres   makes, starts and stops one PostgreSQL server
    valkey     starts and stops one Valkey server
    processes  children that die with their parent, leftover processes, root's stand-in account
    manager    the process manager of `make run`
    assets     the static files of `make run`
    prepare    the first step of `make run`: migrations, admin user, demo token
    run        `make run`

Runs on Linux and macOS. When both URLs are set, as in production, nothing here does anything.
"""

from fundapi.embedded.client import Services, is_used, services
from fundapi.embedded.home import EmbeddedError, Home, alone, in_words

__all__ = ["EmbeddedError", "Home", "Services", "alone", "in_words", "is_used", "services"]
