"""The operators' forms. Each carries the version that the operator saw, and a reason."""

import copy
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django import forms

from rollout import people
from rollout.blank import is_blank
from rollout.models import Rollout, Timeline
from rollout.units import read_percent

REASON_MAX = 1000  # characters; a reason, not a report
NO_REASON = "Give a reason: the history keeps it."
LABELS = {"auto_rollback": "Auto-rollback", "track_migrations": "Migration tracking"}
# Short in the choice, which a telephone would cut; the rules are below it.
TIMELINES = [(each.value, each.label.partition(":")[0]) for each in Timeline]
RULES = "; ".join(str(each.label) for each in Timeline) + "."
PEOPLE = {"always": "Always for", "never": "Never for"}


def refuse_blank(reason: str) -> None:
    """Refuse a reason that shows nothing (a form's validator)."""
    if is_blank(reason):
        raise forms.ValidationError(NO_REASON)


class ReasonForm(forms.Form):
    """The fields of every button: version and reason. The emergency stop requires neither."""

    version = forms.IntegerField(
        error_messages={
            "required": "The version of the rollout that you saw is missing: reload the page.",
            "invalid": "The version of the rollout that you saw is missing: reload the page.",
        }
    )
    reason = forms.CharField(
        max_length=REASON_MAX,
        widget=forms.Textarea(attrs={"rows": 2}),
        error_messages={"required": NO_REASON},
        validators=[refuse_blank],
    )

    def arguments(self) -> list[Any]:
        """Return the arguments of the operation after the feature."""
        return []


class ChangeForm(ReasonForm):
    """A button that moves the rollout. The percentage field beside it belongs to the button *Set*."""

    percentage = forms.CharField(max_length=20, required=False)


class SetPercentageForm(ChangeForm):
    def clean_percentage(self) -> Decimal:
        try:
            percentage = read_percent(self.cleaned_data["percentage"])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None
        if not 0 <= percentage <= 100:
            raise forms.ValidationError(f"{percentage} is not a percentage: it must be between 0 and 100.")
        return percentage

    def arguments(self) -> list[Any]:
        return [self.cleaned_data["percentage"]]


class PeopleField(forms.CharField):
    """People by their names; its value is as the database keeps them."""

    widget = forms.Textarea(attrs={"rows": 2})

    def prepare_value(self, value: Any) -> Any:
        return people.written(value) if value and not self._is_typed(value) else value

    def clean(self, value: Any) -> str:
        try:
            return people.read(super().clean(value))
        except people.NotPeople as error:
            raise forms.ValidationError(str(error)) from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return people.read(data or "") != (initial or "")
        except people.NotPeople:
            return True

    @staticmethod
    def _is_typed(value: str) -> bool:
        """Return whether an operator typed it, so that a refused form shows it again unchanged."""
        try:
            people.validate(value)
        except forms.ValidationError:
            return True
        return False


class ConfigurationForm(forms.ModelForm, ReasonForm):
    """The fields that an operator edits: all that no button changes."""

    timeline = forms.ChoiceField(choices=TIMELINES, help_text=RULES)
    always = PeopleField(
        required=False, label=PEOPLE["always"], help_text=f"At any percentage. {people.SHOULD}"
    )
    never = PeopleField(required=False, label=PEOPLE["never"], help_text="They count before the others.")

    class Meta:
        model = Rollout
        fields = [
            "enabled",
            "timeline",
            "auto_rollback",
            "track_migrations",
            "description",
            "always",
            "never",
        ]
        labels = LABELS

    def __init__(self, data: Mapping[str, Any] | None = None, *, rollout: Rollout) -> None:
        super().__init__(data, instance=copy.copy(rollout))  # the form writes into its instance
        self.rollout = rollout
        if data is not None:  # a page of the version before lacks these fields, and must not clear them
            for name in PEOPLE.keys() - data.keys():
                del self.fields[name]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("version") == self.rollout.version and not set(self.changed_data) & set(
            self.Meta.fields
        ):
            raise forms.ValidationError("Nothing was changed: these values are set already.")
        return cleaned

    def arguments(self) -> list[Any]:
        return [{name: self.cleaned_data[name] for name in self.Meta.fields if name in self.cleaned_data}]


class NewRolloutForm(forms.ModelForm):
    """A new rollout. It begins at 0 %: only the buttons move it, and each leaves a record."""

    reason = forms.CharField(
        max_length=REASON_MAX,
        help_text="The first line of the history.",
        error_messages={"required": NO_REASON},
        validators=[refuse_blank],
    )

    class Meta:
        model = Rollout
        fields = [
            *("feature", "description", "timeline", "auto_rollback", "track_migrations", "hash_version"),
        ]
        labels = LABELS
        help_texts = {
            "timeline": RULES,
            "feature": "Upper case letters, digits and _, such as NEW_CHECKOUT. It cannot be changed later.",
            "hash_version": "2, unless frontends that only know version 1 already use this feature.",
        }
