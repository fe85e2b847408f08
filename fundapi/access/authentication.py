"""Authentication by ``Authorization: Bearer <token>``. DRF handles session cookies, CSRF included."""

import structlog
from django.contrib.auth.models import User
from knox.auth import TokenAuthentication
from knox.crypto import hash_token
from rest_framework.exceptions import AuthenticationFailed

from fundapi.access.tokens import Bearer, bearer


class BearerAuthentication(TokenAuthentication):  # type: ignore[misc]  # knox has no types
    """Authentication by knox's bearer tokens, found by digest. knox reads the header and stores the tokens.

    knox would delete an expired token; this class keeps it, and the admin lists it as expired.
    """

    def authenticate_credentials(self, token: bytes) -> tuple[User, Bearer]:
        caller = bearer(hash_token(token.decode("ascii", errors="replace")))
        if caller is None:
            raise AuthenticationFailed
        structlog.contextvars.bind_contextvars(user_id=caller.user.pk)
        return caller.user, caller
