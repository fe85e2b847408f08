from django.urls import path, re_path, register_converter
from django.urls.converters import PathConverter

from rollout.api.ofrep import flag, flags, unknown
from rollout.api.rollouts import rollouts


class FlagKey(PathConverter):
    """Any text, none and line feeds included, so that OFREP's view answers for unknown flags."""

    regex = "(?s:.*)"


register_converter(FlagKey, "flag")

urlpatterns = [
    path("api/rollouts", rollouts, name="rollouts"),
    path("ofrep/v1/evaluate/flags", flags),
    path("ofrep/v1/evaluate/flags/<flag:key>", flag),
    # After more than one slash, too: clients join their paths to a base that ends in one.
    re_path(r"^(?:/+)?ofrep(?:/|\Z)", unknown),
]
