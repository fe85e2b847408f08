"""Facts about fundapi for schemathesis, which imports this module itself (``SCHEMATHESIS_HOOKS``)."""

import re
import uuid
from typing import Any

import schemathesis

from idempotency.keys import TOKEN

KEY = "Idempotency-Key"
WELL_FORMED = re.compile(rf'("?)((?:{TOKEN.pattern}[|]){{2}}|){TOKEN.pattern}("?)')


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:  # noqa: ARG001 - schemathesis names them
    """Make each well-formed key new: under a used key every request is a conflict, and its body is not validated."""
    sent = (case.headers or {}).get(KEY)
    if isinstance(sent, str) and (key := WELL_FORMED.fullmatch(sent)):
        case.headers[KEY] = f"{key[1]}{key[2]}{uuid.uuid4().hex}{key[3]}"
