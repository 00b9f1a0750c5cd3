"""Users who create documents on the reference service, one after another. For `compose.yaml`; a judged run is `racegate load`."""

from __future__ import annotations

import itertools
import os
import uuid

from locust import FastHttpUser, between, task

SCOPES = int(os.environ.get("SCOPES", "1"))
"""Companies that the users create for: 1 is one hot counter."""


class Clerk(FastHttpUser):
    """Somebody at a counter."""

    host = os.environ.get("SERVICE", "http://127.0.0.1:8000")
    wait_time = between(0.0, 0.2)

    def on_start(self) -> None:
        """Draw what makes this user's requests unlike everybody else's."""
        self.name = uuid.uuid4().hex
        self.intents = itertools.count()

    @task
    def create(self) -> None:
        """Create a document; each has a key of its own, so that it counts once."""
        intent = next(self.intents)
        scope = intent % SCOPES
        body = {
            "company": f"company-{scope}",
            "document_type": "invoice",
            "branch": f"Branch{scope}",
            "at": "2026-06-01T12:00:00+00:00",
            "amount": 1000 + intent,
        }
        headers = {"Idempotency-Key": f"{self.name}-{intent}"}
        with self.client.post("/create", json=body, headers=headers, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"{answer.status_code}: {answer.text[:200]}")
