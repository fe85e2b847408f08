"""Export a list as CSV or JSON: what its filters and its search show, in its order."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.core.serializers.json import DjangoJSONEncoder
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.urls import URLPattern, path

ROWS_MAX = 10_000
ROWS_AT_ONCE = 200  # of a list whose documents have kilobytes each
# A spreadsheet takes text that begins so for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
FORMATS = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


class Exported(admin.ModelAdmin):
    """A list with two links: to its rows as CSV, and as JSON."""

    # Column of the table for each column of an export; by default all of the table, under their own names.
    export_fields: Mapping[str, str] = {}

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        view = self.admin_site.admin_view(self.export)
        return [path("export.<str:form>", view, name=name), *super().get_urls()]

    def export(self, request: HttpRequest, form: str) -> HttpResponseBase:
        """Stream the first 10,000 rows of the list that the query describes."""
        if form not in FORMATS:
            raise Http404
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            found = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect("./")
        columns = self.export_fields or {field.attname: field.attname for field in self.opts.concrete_fields}
        rows = found.defer(None).select_related(None).values_list(*columns.values())[:ROWS_MAX]
        write = _as_csv if form == "csv" else _as_json
        response = StreamingHttpResponse(
            write(columns, rows.iterator(ROWS_AT_ONCE)), content_type=FORMATS[form]
        )
        response["Content-Disposition"] = f'attachment; filename="{self.opts.model_name}.{form}"'
        response["Cache-Control"] = "no-store"
        return response


def _as_json(columns: Iterable[str], rows: Iterator[tuple[Any, ...]]) -> Iterator[str]:
    yield "["
    for number, row in enumerate(rows):
        record = dict(zip(columns, row, strict=True))
        yield ("," if number else "") + "\n" + json.dumps(record, cls=DjangoJSONEncoder, ensure_ascii=False)
    yield "\n]\n"


class _Echo:
    """A file that returns what is written to it."""

    def write(self, line: str) -> str:
        return line


def _as_csv(columns: Iterable[str], rows: Iterator[tuple[Any, ...]]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(columns)
    for row in rows:
        yield writer.writerow([_cell(value) for value in row])


def _cell(value: Any) -> str:
    """Return a value as text that no spreadsheet runs."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)
    text = text.removeprefix('"').removesuffix('"') if not isinstance(value, str | dict | list) else text
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text
