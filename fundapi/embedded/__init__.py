"""A private PostgreSQL and Valkey for development and tests, kept in a directory of their own
(`FUNDAPI_HOME`).

    from fundapi.embedded import services

    with services(home):  # sets DATABASE_URL and REDIS_URL where they are unset
        ...

The map:

    home       what lies where in the home, its locks, the secrets made once
    client     `services()`: join the services of a home, starting them when nobody has
    keeper     the background process that runs both services exactly as long as somebody uses the home
    reach      what root's stand-in account has to reach: data outside a closed home, throw-away directories
    programs   PostgreSQL's and Valkey's programs: the packages', or copies that the account may run
    sockets    the directory of the services' sockets, in the home or, for a long path, a temporary one
    postgres   one PostgreSQL server: made, started, stopped
    valkey     one Valkey server: started, stopped
    processes  children that die with their parent, leftovers found by what they are, root's stand-in account
    manager    the process manager of `make run`
    prepare    what `make run` does before it serves: migrate, admin user, demo token
    run        `make run`

Linux and macOS. Where both URLs are set, in production, nothing here does anything.
"""

from fundapi.embedded.client import Services, services
from fundapi.embedded.home import EmbeddedError, Home

__all__ = ["EmbeddedError", "Home", "Services", "services"]
