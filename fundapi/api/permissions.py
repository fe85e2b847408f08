"""Permission to create funds: Django's ``fundapi.add_fund``, directly or by a group."""

from rest_framework.permissions import SAFE_METHODS, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from fundapi.access.tokens import Bearer, may_create_funds


class FundPermission(IsAuthenticated):
    """Let every user read their own funds, and users with the permission create funds."""

    message = "You may not create funds: ask an administrator for the permission 'Can add fund'."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        if request.method in SAFE_METHODS:
            return True
        if isinstance(request.auth, Bearer):
            return request.auth.may_create_funds
        return may_create_funds(request.user.pk)


class SignedInAs(BasePermission):
    """Refuse a page whose user, named in ``Signed-In-As``, is not the session's.

    Tabs share a session: after another user has signed in in one, a page in another tab would create its fund for them.
    """

    code = "signed_in_as_another"
    message = "The session is not that of the user in Signed-In-As: load the page again."

    def has_permission(self, request: Request, view: APIView) -> bool:
        user = str(request.user.pk)
        return bool(request.META.get("HTTP_SIGNED_IN_AS", user) == user)
