"""Formats of dates in the admin: as in logs, to the second and with the zone, because support compares the two."""

DATE_FORMAT = "Y-m-d"
DATETIME_FORMAT = "Y-m-d H:i:s T"
