"""Permission to create funds: Django's ``fundapi.add_fund``, directly or by a group."""

from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
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
