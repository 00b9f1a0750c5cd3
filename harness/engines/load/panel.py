"""What a visitor of Locust's page sees of ours: tabs beside its own, and the same on a page of their own (``/racegate/``).

The tabs are custom elements that one script defines; Locust's bundle renders them by name, so nothing has to be built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from flask import Blueprint, Response, jsonify, request

KEPT = 3600
"""Samples that are kept for visitors who come late."""

TABS = (("Invariants", "racegate-invariants"), ("Capacity", "racegate-capacity"))


class Panel:
    """What is shown: the state of the run, its samples, and at the end its result."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"state": "idle", "title": "", "run": 0, "result": None}
        self._samples: list[Mapping[str, Any]] = []

    def show(self, sample: Mapping[str, Any]) -> None:
        """Take in a sample of the live figures."""
        self._samples.append(sample)
        del self._samples[:-KEPT]

    def begin(self, title: str) -> None:
        """A run begins."""
        self._samples = []
        self.state = {"state": "running", "title": title, "run": self.state["run"] + 1, "result": None}

    def turn(self, state: str, result: Mapping[str, Any] | None = None) -> None:
        """Go over to another state; ``result`` is what the run came to, if it is known."""
        self.state = {**self.state, "state": state, "result": result}

    def install(self, web: Any, tabs: Sequence[tuple[str, str]] = TABS) -> None:
        """Add the tabs to Locust's page, and what they need.

        Raises:
            AttributeError, KeyError: this Locust's page is built otherwise.
        """
        web.template_args["extended_tabs"] = [{"title": title, "key": element, "component": element} for title, element in tabs]
        web.app.register_blueprint(self._blueprint(web.auth_required_if_enabled))

        @web.app.after_request  # type: ignore[untyped-decorator]
        def add_script(response: Response) -> Response:
            if request.endpoint == "locust.index" and response.mimetype == "text/html" and response.status_code == 200:
                page = response.get_data(as_text=True)
                response.set_data(page.replace("</body>", '<script src="./racegate/panel.js"></script></body>', 1))
            return response

    def _blueprint(self, guard: Callable[[Any], Any]) -> Blueprint:
        ours = Blueprint("racegate", __name__, url_prefix="/racegate")
        script = (files("harness.engines.load") / "panel.js").read_text(encoding="utf-8")

        @ours.route("/")
        @guard
        def alone() -> str:
            return _ALONE

        @ours.route("/panel.js")
        @guard
        def panel() -> Response:
            return Response(script, mimetype="text/javascript")

        @ours.route("/live")
        @guard
        def live() -> Response:
            since = max(request.args.get("since", 0, int), 0) if request.args.get("run", -1, int) == self.state["run"] else 0
            return jsonify({**self.state, "from": since, "samples": self._samples[since:]})

        return ours


_ALONE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>racegate</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<body style="font-family:sans-serif;max-width:70rem;margin:1rem auto;padding:0 1rem">
<h1>racegate</h1><p><a href="../">Locust</a></p>
<racegate-invariants></racegate-invariants><racegate-capacity></racegate-capacity>
<script src="panel.js"></script></body></html>
"""
