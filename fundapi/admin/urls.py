"""Addresses of the admin. Importing them imports the pages of every app."""

from django.contrib import admin

admin.autodiscover()
urlpatterns = admin.site.get_urls()
