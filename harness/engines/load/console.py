"""Locust's page with ours in it: the form asks for scenario, target and policy, and two tabs show what the load does.

The tabs are custom elements that one script defines; Locust's bundle renders them by name, so nothing has to be built. What
is used of Locust beyond its documentation is checked when the page opens, and the same elements stand on a page of their own
(``/racegate/``), which works whatever Locust's bundle makes of its tabs.

Start does not start users: it asks the parent, which prepares a database and the scene first. Stop is Locust's own.
The page listens on the loopback interface unless told otherwise, answers to its own name only (so that no other site can
point a name at it), and allows no other origin.
"""

from __future__ import annotations

import hmac
import logging
import math
import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import gevent.event
import locust
from flask import Response, abort, jsonify, redirect, request, session, url_for
from flask_login import login_user
from locust.argument_parser import LocustArgumentParser, parse_options
from locust.env import Environment
from locust.util.timespan import parse_timespan

from harness.engines.load.panel import Panel
from harness.engines.load.plan import LoadPlan, Page
from harness.model.errors import EnvironmentProblem, UsageError

TESTED = (2, 47)
"""Locust's version whose page this was tried with."""

PREPARE_LIMIT = 120.0
"""Seconds that a visitor who pressed Start waits for the database and the scene."""

LISTEN_LIMIT = 10.0
"""Seconds within which the page must listen."""

MOST_USERS = 10_000
"""As many users as the command line allows."""

_HELP = {
    "scenario": "what the users do",
    "target": "what they do it to",
    "policy": "what the business demands of its numbers; empty: the scenario's own",
}


class Visitor:
    """Whoever knows the password, as flask_login asks."""

    is_authenticated = is_active = True
    is_anonymous = False
    id = "visitor"

    def get_id(self) -> str:
        """Return what the session cookie says of the visitor."""
        return self.id


class Console:
    """The page of one process.

    Args:
        environment: Locust's, whose runner is there already.
        page: where and what.
        want: told the form when somebody presses Start.
        resize: told how many users there are to be, and the spawn rate, when somebody asks for others while a run goes on.

    Raises:
        EnvironmentProblem: the port is taken, or this Locust's page is another one.
    """

    def __init__(
        self,
        environment: Environment,
        page: Page,
        want: Callable[[Mapping[str, Any]], None],
        resize: Callable[[int, float], None],
    ) -> None:
        self._environment, self._page, self._want, self._resize = environment, page, want, resize
        self._options: Any = None
        self._answer: gevent.event.AsyncResult | None = None
        self._running = False
        self._panel = Panel()
        self._port = _free_port(page)
        self.address = f"http://{page.host}:{self._port}"
        self._offer_form()
        web = environment.create_web_ui(host=page.host, port=self._port, web_login=page.password is not None, delayed_start=True)
        try:
            self._extend(web)
        except (AttributeError, KeyError) as e:
            raise EnvironmentProblem(
                f"the page of Locust {locust.__version__} is built otherwise than that of {TESTED[0]}.{TESTED[1]} ({e}); "
                "install that version, or run without --ui"
            ) from e
        web.start()
        with gevent.Timeout(LISTEN_LIMIT, EnvironmentProblem(f"the page did not begin to listen at {self.address}")):
            while not getattr(web.server, "started", False):
                gevent.sleep(0.01)

    def show(self, sample: Mapping[str, Any]) -> None:
        """Take in a sample of the live figures."""
        self._panel.show(sample)

    def begin(self, plan: LoadPlan) -> None:
        """The run that was wanted begins."""
        self._running = True
        self._panel.begin(f"{plan.scenario.name} on {plan.target.name}")
        self._reply({"success": True, "message": "Swarming started", "host": plan.target.name})

    def refuse(self, text: str) -> None:
        """The run that was wanted cannot be."""
        self._panel.turn("refused", {"verdict": "unknown", "findings": [{"message": text}]})
        self._running = False
        self._reply({"success": False, "message": text, "host": self._environment.host})

    def judge(self) -> None:
        """The users are gone; the parent reads the books."""
        self._running = False
        self._panel.turn("judging")

    def conclude(self, result: Mapping[str, Any]) -> None:
        """The verdict is there."""
        self._panel.turn("done", result)

    def _reply(self, answer: Mapping[str, Any]) -> None:
        waiting, self._answer = self._answer, None
        if waiting is not None:
            waiting.set(answer)

    def _offer_form(self) -> None:
        def add(parser: LocustArgumentParser) -> None:
            for name, choices in self._page.choices.items():
                parser.add_argument(f"--{name}", default=self._page.preset.get(name), choices=choices, help=_HELP.get(name, ""))

        sys.argv = sys.argv[:1]  # Locust reads the command line again for every page that it shows
        locust.events.init_command_line_parser.add_listener(add)
        options = parse_options(args=[])
        options.num_users, options.spawn_rate, options.stats_history_enabled = self._page.users, self._page.spawn_rate, False
        if self._page.seconds is not None and self._page.seconds.is_integer():  # Locust's form knows whole seconds only
            options.run_time = f"{self._page.seconds:.0f}s"
        self._environment.parsed_options = self._options = options
        self._environment.host = self._page.preset.get("target") or "racegate"

    def _extend(self, web: Any) -> None:
        app, guard = web.app, web.auth_required_if_enabled
        app.debug = False
        app.secret_key = secrets.token_bytes(32)
        app.config.update(SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_SAMESITE="Strict")
        after = app.after_request_funcs
        after[None] = [f for f in after.get(None, []) if not f.__module__.startswith("flask_cors")]
        self._panel.install(web)
        self._routes(app, guard)
        if web.web_login:
            self._login(web)
        if tuple(int(part) for part in locust.__version__.split(".")[:2]) != TESTED:
            logging.warning(
                "this was tried with Locust %s.%s and not with %s; if the tabs are empty, see %s/racegate/",
                *TESTED,
                locust.__version__,
                self.address,
            )

    def _routes(self, app: Any, guard: Callable[[Any], Any]) -> None:
        @app.before_request  # type: ignore[untyped-decorator]
        def own_name_only() -> None:
            host = request.host.rsplit(":", 1)[0]
            origin = request.headers.get("Origin")
            if host not in (self._page.host, "localhost") and not self._page.host.startswith("0."):
                abort(403)
            if origin is not None and urlsplit(origin).netloc != request.host:
                abort(403)

        @app.after_request  # type: ignore[untyped-decorator]
        def dress(response: Response) -> Response:
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["X-Frame-Options"] = "DENY"
            return response

        app.view_functions["locust.swarm"] = guard(self._swarm(app.view_functions["locust.swarm"]))

    def _swarm(self, theirs: Any) -> Callable[[], Response]:
        """Return what Start does. Locust's own is replaced; it is asked for so that its absence is noticed."""
        assert callable(theirs)

        def swarm() -> Response:
            form = request.form.to_dict()
            try:
                users, rate, seconds = _read(form, self._page)
                chosen = _chosen(form, self._page)
            except UsageError as e:
                return jsonify({"success": False, "message": str(e), "host": ""})
            if self._running and self._environment.runner is not None:
                self._resize(users, rate)
                return jsonify({"success": True, "message": "Swarming started", "host": self._environment.host})
            if self._answer is not None or self._panel.state["state"] == "judging":
                return jsonify({"success": False, "message": "the last run is not over yet", "host": ""})
            for name, value in chosen.items():
                setattr(self._options, name, value)
            self._options.run_time = form.get("run_time") or self._options.run_time
            self._options.num_users, self._options.spawn_rate = users, rate
            waiting = self._answer = gevent.event.AsyncResult()
            self._panel.turn("preparing")
            self._want({**chosen, "users": users, "spawn_rate": rate, "seconds": seconds})
            try:
                return jsonify(waiting.get(timeout=PREPARE_LIMIT))
            except gevent.Timeout:
                self._answer = None
                return jsonify({"success": False, "message": "the database was not ready in time", "host": ""})

        return swarm

    def _login(self, web: Any) -> None:
        password = self._page.password or ""
        web.login_manager.user_loader(lambda user: Visitor() if user == Visitor.id else None)
        web.auth_args = {"username_password_callback": "/racegate-login"}

        @web.app.route("/racegate-login", methods=["POST"])  # type: ignore[untyped-decorator]
        def log_in() -> Any:
            if hmac.compare_digest(request.form.get("password", "").encode(), password.encode()):
                login_user(Visitor())
                return redirect(url_for("locust.index"))
            session["auth_error"] = "That is not the password"
            return redirect(url_for("locust.login"))


def _read(form: Mapping[str, str], page: Page) -> tuple[int, float, float | None]:
    """Return users, spawn rate and seconds; what is left out is what the page was made with. Raises UsageError."""
    try:
        users = int(form.get("user_count") or page.users)
        rate = float(form.get("spawn_rate") or page.spawn_rate)
    except ValueError as e:
        raise UsageError(f"users and spawn rate are numbers: {e}") from e
    if users < 1 or not 0 < rate < math.inf:
        raise UsageError("users and spawn rate are more than 0")
    if users > MOST_USERS:
        raise UsageError(f"there are at most {MOST_USERS} users")
    if not form.get("run_time"):
        return users, rate, page.seconds
    try:
        seconds = parse_timespan(form["run_time"])
    except ValueError as e:
        raise UsageError(f"{form['run_time'][:40]!r} is no run time; write 90s, 10m or 1h30m") from e
    if not 0 < seconds <= page.longest:
        raise UsageError(f"the run time is more than 0 and at most {page.longest / 3600:.0f}h")
    return users, rate, float(seconds)


def _chosen(form: Mapping[str, str], page: Page) -> dict[str, str]:
    """Return what the form chose; what is left out is what the page was made with. Raises UsageError."""
    chosen = {name: form.get(name) or page.preset.get(name, "") for name in page.choices}
    for name, value in chosen.items():
        if value not in page.choices[name] and value != page.preset.get(name):
            raise UsageError(f"no {name} is called {value[:40]!r}; choose one that the page offers")
    return chosen


def _free_port(page: Page) -> int:
    """Return the page's port, or a free one in place of 0. Raises EnvironmentProblem if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((page.host, page.port))
        except OSError as e:
            raise EnvironmentProblem(
                f"the page cannot listen on {page.host}:{page.port} ({e.strerror}); choose another --ui-port"
            ) from e
        return int(probe.getsockname()[1])
