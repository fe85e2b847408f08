"""The admin: one module a page. ``rollouts`` is the operator's screen; the other pages are read-only (``records``).

The screen's parts are ``buttons``, ``forms`` and ``chart_data``; its list reads ``latest_checks``. ``github_links`` are
those of deployments.
"""

from django.apps import apps
from django.contrib import admin

from rollout.admin.alerts import AlertAdmin
from rollout.admin.checks import CheckAdmin
from rollout.admin.deployments import DeploymentAdmin
from rollout.admin.incidents import IncidentAdmin
from rollout.admin.rollouts import RolloutAdmin
from rollout.admin.telemetry import TelemetryEventAdmin
from rollout.models import Alert, Check, Deployment, Incident, Rollout, TelemetryEvent

# The extra `admin`: where a project has Unfold, its fields and lists.
if apps.is_installed("unfold"):
    from unfold.admin import ModelAdmin
else:
    from django.contrib.admin import ModelAdmin  # type: ignore[assignment] # either is a base of the pages

for model, page in {
    Rollout: RolloutAdmin,
    Check: CheckAdmin,
    Incident: IncidentAdmin,
    Alert: AlertAdmin,
    Deployment: DeploymentAdmin,
    TelemetryEvent: TelemetryEventAdmin,
}.items():
    admin.site.register(model, type(page.__name__, (page, ModelAdmin), {"__module__": page.__module__}))
