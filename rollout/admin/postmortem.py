"""People's notes on an incident, and all of it as Markdown for the post-mortem."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from rollout.blank import is_blank
from rollout.models import Incident

NOTE_MAX = 2000  # characters
NOTES_MAX = 100  # of one incident; a post-mortem has its own document


NO_NOTE = "Write the note first."


class NoteForm(forms.Form):
    text = forms.CharField(max_length=NOTE_MAX, error_messages={"required": NO_NOTE})

    def clean_text(self) -> str:
        text: str = self.cleaned_data["text"]
        if is_blank(text):
            raise ValidationError(NO_NOTE)
        return text


def add_note(incident: Incident, *, by: str, text: str) -> None:
    """Append a note, which nobody changes afterwards.

    Raises:
        ValidationError: the incident has as many notes as it may have.
    """
    with transaction.atomic():
        row = Incident.objects.select_for_update().get(pk=incident.pk)
        notes = row.notes or []
        if notes and (notes[-1]["by"], notes[-1]["text"]) == (by, text):
            return  # a double click
        if len(notes) >= NOTES_MAX:
            raise ValidationError(
                f"An incident has at most {NOTES_MAX} notes: write the rest into its post-mortem."
            )
        row.notes = [*notes, {"at": timezone.now().isoformat(), "by": by, "text": text}]
        row.save(update_fields=["notes"])


def notes_of(incident: Incident) -> list[dict[str, Any]]:
    """Return the notes, oldest first, with their times."""
    return [{**note, "at": datetime.fromisoformat(note["at"])} for note in incident.notes or []]


def markdown(title: str, facts: Iterable[tuple[str, str]], why: Iterable[str], entries: Iterable[Any]) -> str:
    """Return an incident as Markdown: its facts, its reasons and its timeline, all times in UTC.

    ``<`` is escaped: ``<lambda>`` of an error, and all after a ``<!--``, would be HTML, which pages hide.
    """
    lines = [f"# {title}", ""]
    lines += [f"- {name}: {value}" for name, value in facts]
    lines += ["", "## Why", "", *(f"- {reason}" for reason in why), "", "## Timeline (UTC)", ""]
    for entry in entries:
        signal = f"{entry.signal}: " if entry.signal else ""
        lines.append(f"- {entry.at:%Y-%m-%d %H:%M:%S} {signal}{entry.title}")
        lines += [f"  - {line}" for text in entry.texts for line in text.splitlines() if line.strip()]
    return "\n".join([*lines, "", "## What we learned", "", ""]).replace("<", r"\<")
