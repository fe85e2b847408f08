"""Forms: what is compared of one, and the hidden field that has its key."""

import hashlib
from contextlib import suppress
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest
from django.http.request import HttpHeaders

MEDIA_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
# A form cannot send a header; the template tag idempotency_key writes this field.
KEY_FIELD = "idempotency_key"
# They change with each page that has the form.
NOT_COMPARED = {KEY_FIELD, "csrfmiddlewaretoken"}


def is_form(request: HttpRequest) -> bool:
    return request.content_type in MEDIA_TYPES


def key_of(request: HttpRequest, header: str) -> str | None:
    """Return the key of a request: its header, else the hidden field of its form."""
    key: str | None = request.META.get(HttpHeaders.to_wsgi_name(header))
    if key is None and is_form(request):
        load(request)
        key = request.POST.get(KEY_FIELD)
    return key


def load(request: HttpRequest) -> None:
    """Read a form into ``request.POST`` and ``request.FILES``, also where the method is another one than POST.

    Django's limits hold: files go to disk, and do not count as memory. A body that fits into memory is kept as bytes
    too, for a view that reads ``request.body``.

    Raises:
        RequestDataTooBig, MultiPartParserError: as ``request.POST`` does.
    """
    if hasattr(request, "_post"):
        return
    with suppress(RequestDataTooBig):
        _ = request.body
    method, request.method = request.method, "POST"
    try:
        request._load_post_and_files()  # noqa: SLF001 - what reading POST calls
    finally:
        request.method = method


def form_of(request: HttpRequest) -> dict[str, Any]:
    """Return the fields and files of a form as JSON: the order of fields does not count, that of values does."""
    load(request)
    return {
        "fields": {name: values for name, values in request.POST.lists() if name not in NOT_COMPARED},
        "files": {name: [_described(file) for file in files] for name, files in request.FILES.lists()},
    }


def _described(file: UploadedFile) -> list[str]:
    """Return name, content type and digest of a file, which is read in chunks and rewound."""
    digest = hashlib.blake2b(digest_size=32)
    for chunk in file.chunks():
        digest.update(chunk)
    file.seek(0)
    return [file.name or "", file.content_type or "", digest.hexdigest()]
