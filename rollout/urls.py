from django.urls import path

from rollout.ofrep import flag, flags
from rollout.views import rollouts

urlpatterns = [
    path("api/rollouts", rollouts, name="rollouts"),
    path("ofrep/v1/evaluate/flags", flags),
    path("ofrep/v1/evaluate/flags/<path:key>", flag),
]
