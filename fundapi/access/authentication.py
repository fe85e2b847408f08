"""Who is calling: ``Authorization: Bearer <token>``. Session cookies are DRF's own business, CSRF included."""

import structlog
from django.contrib.auth.models import User
from knox.auth import TokenAuthentication
from knox.crypto import hash_token
from rest_framework.exceptions import AuthenticationFailed

from fundapi.access.tokens import Bearer, bearer


class BearerAuthentication(TokenAuthentication):  # type: ignore[misc]  # knox has no types
    """Knox reads the header and keeps the tokens; they are found by digest, and expired ones left to be seen."""

    def authenticate_credentials(self, token: bytes) -> tuple[User, Bearer]:
        found = bearer(hash_token(token.decode("ascii", errors="replace")))
        if found is None:
            raise AuthenticationFailed
        structlog.contextvars.bind_contextvars(user_id=found.user.pk)
        return found.user, found
