"""Accounts with five terms and payments that somebody approves, on Django.

LOCKING=none is the bug: the payment's state is read, checked and written back, and another approval may come in between.
LOCKING=row is the fix: select_for_update locks the payment and its term before they are read.

Start it with: python service.py
"""

from __future__ import annotations

import json
import os
import sys
from socketserver import ThreadingMixIn
from urllib.parse import unquote, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection, models, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path

ADDRESS = urlsplit(os.environ["DATABASE_URL"])
LOCKING = os.environ.get("LOCKING", "none") == "row"
SHARES = (4215, 1786, 1786, 1488, 725)
"""What each term owes of the assessment, in hundredths of a per cent."""

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": ADDRESS.path.lstrip("/"),
            "USER": unquote(ADDRESS.username or ""),
            "PASSWORD": unquote(ADDRESS.password or ""),
            "HOST": ADDRESS.hostname,
            "PORT": ADDRESS.port or "",
            "CONN_MAX_AGE": 0,
        }
    },
)
django.setup()


class Term(models.Model):
    """One part of what an account owes, in minor units."""

    id = models.TextField(primary_key=True)
    account = models.TextField()
    assessment = models.BigIntegerField()
    opening = models.BigIntegerField()
    balance = models.BigIntegerField()

    class Meta:
        """Where it is kept."""

        app_label = "shop"
        db_table = "terms"


class Payment(models.Model):
    """A payment on a term, which takes effect when it is approved."""

    id = models.TextField(primary_key=True)
    term = models.ForeignKey(Term, on_delete=models.PROTECT)
    amount = models.BigIntegerField()
    status = models.TextField(default="awaiting_approval")
    reference = models.TextField()

    class Meta:
        """Where it is kept."""

        app_label = "shop"
        db_table = "payments"


def health(request: HttpRequest) -> JsonResponse:
    """Answer that the service is there."""
    return JsonResponse({"ok": True})


def accounts(request: HttpRequest) -> JsonResponse:
    """Open an account: split its assessment into terms, the last of which takes what rounding leaves."""
    body = json.loads(request.body)
    parts = [body["assessment"] * share // 10_000 for share in SHARES[:-1]]
    parts.append(body["assessment"] - sum(parts))
    Term.objects.bulk_create(
        Term(id=f"{body['id']}/{n}", account=body["id"], assessment=body["assessment"], opening=part, balance=part)
        for n, part in enumerate(parts, start=1)
    )
    return JsonResponse({"id": body["id"]}, status=201)


def payments(request: HttpRequest) -> JsonResponse:
    """Submit a payment."""
    body = json.loads(request.body)
    Payment.objects.create(id=body["id"], term_id=body["term"], amount=body["amount"], reference=body["reference"])
    return JsonResponse({"id": body["id"]}, status=201)


@transaction.atomic
def approve(request: HttpRequest, payment_id: str) -> JsonResponse:
    """Approve a payment: it is paid, and its term owes less."""
    rows = Payment.objects.select_for_update() if LOCKING else Payment.objects
    payment = rows.get(pk=payment_id)
    if payment.status != "awaiting_approval":
        return JsonResponse({"error": f"the payment is {payment.status}"}, status=409)
    payment.status = "paid"
    payment.save()
    terms = Term.objects.select_for_update() if LOCKING else Term.objects
    term = terms.get(pk=payment.term_id)
    term.balance -= payment.amount
    term.save()
    return JsonResponse({"balance": term.balance})


urlpatterns = [
    path("health", health),
    path("accounts", accounts),
    path("payments", payments),
    path("payments/<str:payment_id>/approve", approve),
]


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request."""

    daemon_threads = True
    request_queue_size = 100


class QuietHandler(WSGIRequestHandler):
    """Does not write a line for every request."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main() -> None:
    """Make the tables if they are not there, and serve."""
    with connection.schema_editor() as editor:
        present = connection.introspection.table_names()
        for model in (Term, Payment):
            if model._meta.db_table not in present:
                editor.create_model(model)
    connection.close()
    server = Server(("127.0.0.1", int(os.environ["PORT"])), QuietHandler)
    server.set_app(get_wsgi_application())
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
