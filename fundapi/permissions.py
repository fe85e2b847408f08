"""Who may create funds: whoever holds Django's permission ``fundapi.add_fund``, directly or by a group."""

from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db import connection
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

# What user.has_perm("fundapi.add_fund") says, in one query instead of two.
MAY_CREATE = """
SELECT EXISTS (
    SELECT FROM auth_permission AS permission
    JOIN django_content_type AS type ON type.id = permission.content_type_id
    WHERE type.app_label = 'fundapi' AND permission.codename = 'add_fund'
    AND (
        EXISTS (SELECT FROM auth_user_user_permissions WHERE user_id = %s AND permission_id = permission.id)
        OR EXISTS (
            SELECT FROM auth_group_permissions
            JOIN auth_user_groups USING (group_id)
            WHERE user_id = %s AND permission_id = permission.id
        )
    )
)
"""


def may_create_funds(user: AbstractUser | AnonymousUser) -> bool:
    """Tell whether an active user may create funds, now, by the database."""
    if user.is_superuser:
        return True
    with connection.cursor() as cursor:
        cursor.execute(MAY_CREATE, (user.pk, user.pk))
        return bool(cursor.fetchone()[0])


class FundPermission(IsAuthenticated):
    """Everybody reads their own funds; creating takes the permission."""

    message = "You may not create funds: ask an administrator for the permission 'Can add fund'."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        return request.method in SAFE_METHODS or may_create_funds(request.user)
