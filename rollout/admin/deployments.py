"""The page of deployments: commit, state and revert. The release commands write them."""

import re

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from rollout.admin.github_links import page_of
from rollout.admin.periods import period
from rollout.admin.records import ReadOnlyAdmin, brief, moment
from rollout.conf import conf
from rollout.models import Deployment, DeploymentState, Incident

INCIDENTS_MAX = 20  # on the page of a deployment
SHORT = 8  # characters of a commit in a list
PREFIX = re.compile(r"[0-9a-f]{6,40}")  # shorter is more often a number or a word
NUMBER = re.compile(r"[0-9]{1,9}")


def github(label: str, *path: str | int) -> str:
    """Return a link to a page of the repository, or the label alone where the repository is not known."""
    address = page_of(conf.github_api_url, conf.github_repository, *path)
    return format_html('<a class="rollout-link" href="{}">{}</a>', address, label) if address else label


class DeploymentAdmin(ReadOnlyAdmin):
    list_display = ["number", "name", "short", "environment", "deployed_by", "when", "badge", "revert"]
    nothing = "No deployment so far: deploy_with_confidence records what it merges."
    list_filter = [*period("deployed_at"), "state"]
    search_fields = ["pull_request", "commit", "title"]
    search_help_text = "Number, commit or title"
    ordering = ["-deployed_at", "-id"]
    fieldsets = [
        (None, {"fields": ["pull", "title", "badge", "why", "monitoring", "incidents"]}),
        (
            "Deployment",
            {"fields": ["whole", "commits", "branch", "environment", "deployed_by", "when"]},
        ),
        ("Revert", {"fields": ["revert_pull", "revert_branch", "revert_outcome"]}),
    ]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Deployment], search_term: str
    ) -> tuple[QuerySet[Deployment], bool]:
        """Find a pull request and its revert by number, a deployment by its commit; both also by a GitHub address."""
        term = search_term.strip()
        last = term.rstrip("/").rpartition("/")[2].removeprefix("#").lower()
        condition = Q(title__icontains=term)
        if NUMBER.fullmatch(last):
            condition |= Q(pull_request=int(last)) | Q(revert_pull_request=int(last))
        if PREFIX.fullmatch(last):
            condition |= Q(commit__startswith=last)
        return (queryset.filter(condition) if term else queryset), False

    @admin.display(description="pull request")
    def number(self, deployment: Deployment) -> str:
        return f"#{deployment.pull_request}"

    @admin.display(description="pull request")
    def pull(self, deployment: Deployment) -> str:
        return github(f"#{deployment.pull_request}", "pull", deployment.pull_request)

    @admin.display(description="title")
    def name(self, deployment: Deployment) -> str:
        return format_html('<span class="rollout-why">{}</span>', brief(deployment.title))

    @admin.display(description="commit")
    def short(self, deployment: Deployment) -> str:
        return github(deployment.commit[:SHORT], "commit", deployment.commit)

    @admin.display(description="commit")
    def whole(self, deployment: Deployment) -> str:
        return github(deployment.commit, "commit", deployment.commit)

    @admin.display(description="deployed at (UTC)")
    def when(self, deployment: Deployment) -> str:
        return moment(deployment.deployed_at)

    @admin.display(description="state")
    def badge(self, deployment: Deployment) -> str:
        label = DeploymentState(deployment.state).label.partition(":")[0]
        name = deployment.state.replace("_", "-")
        return format_html('<span class="rollout-badge is-{}">{}</span>', name, label)

    @admin.display(description="why")
    def why(self, deployment: Deployment) -> str | None:
        meaning = DeploymentState(deployment.state).label.partition(": ")[2]
        return deployment.says or meaning.capitalize() or None

    @admin.display(description="monitoring")
    def monitoring(self, deployment: Deployment) -> str:
        began = deployment.monitored_since
        return f"under way since {began:%Y-%m-%d %H:%M:%S} UTC" if began else "not under way"

    @admin.display(description="incidents before the next deployment")
    def incidents(self, deployment: Deployment) -> str | None:
        later = (
            Deployment.objects.filter(deployed_at__gt=deployment.deployed_at).order_by("deployed_at").first()
        )
        found = Incident.objects.select_related("rollout").filter(tripped_at__gte=deployment.deployed_at)
        if later:
            found = found.filter(tripped_at__lt=later.deployed_at)
        links = (
            (
                reverse("admin:rollout_incident_change", args=[incident.pk]),
                f"{incident.rollout}, {incident.tripped_at:%Y-%m-%d %H:%M} UTC",
            )
            for incident in found.order_by("tripped_at")[:INCIDENTS_MAX]
        )
        return format_html_join(", ", '<a class="rollout-link" href="{}">{}</a>', links) or None

    @admin.display(description="revert")
    def revert(self, deployment: Deployment) -> str | None:
        number = deployment.revert_pull_request
        return github(f"#{number}", "pull", number) if number else None

    @admin.display(description="pull request")
    def revert_pull(self, deployment: Deployment) -> str | None:
        return self.revert(deployment)

    @admin.display(description="outcome")
    def revert_outcome(self, deployment: Deployment) -> str | None:
        if not deployment.revert_says:
            return None
        return deployment.revert_says + ("" if deployment.revert_settled else " It can be tried again.")
