"""Import structlog and Django REST Framework without what these find installed and a web worker never uses.

Saves 9 MiB of a worker's 85 and 0.1 s of its start. It leans on two modules that treat these packages as optional:
``structlog.dev`` (rich) and ``rest_framework.compat`` (pygments, requests, yaml). Afterwards everything can be imported
as usual: the admin needs pygments, the API's document yaml.
"""

import sys

_NEEDLESS = {"pygments", "requests", "rich", "yaml"} - set(sys.modules)

for _name in _NEEDLESS:
    sys.modules[_name] = None  # type: ignore[assignment]  # Python's own way to say "is not installed"
try:
    import rest_framework.compat  # noqa: F401 - imported for what it does not find
    import structlog.dev  # noqa: F401 - likewise
finally:
    for _name in _NEEDLESS:
        del sys.modules[_name]
