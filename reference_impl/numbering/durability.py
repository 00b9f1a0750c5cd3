"""Numbers that do not outlive a server: right as long as nobody dies, and ways to find out.

The write concern is a setting of every MongoDB variant, for single writes (transactions always commit with a majority):
``mongo.counter_document`` with ``write_concern=1`` issues a number twice when its primary is lost (N36). The two here differ from
correct variants in where they read, and in what a commit waits for.
"""

from __future__ import annotations

from typing import Any

import pymongo
from pymongo.client_session import ClientSession

from reference_impl.base.postgres import PostgresSession
from reference_impl.numbering.broken_mongo import CountPlusOne
from reference_impl.numbering.mongo import Drawn
from reference_impl.numbering.postgres import CounterRow, Settings
from reference_impl.numbering.series import Ask
from reference_impl.numbering.variants import MONGO, OPERATIONS, POSTGRES
from reference_impl.variants import variant


@variant("pg.asynchronous_commit", operations=OPERATIONS, settings=POSTGRES)
class AsynchronousCommit(CounterRow):
    """The right counter with synchronous_commit off: a commit is acknowledged before it is in the log.

    A is told 5; the server is killed before it wrote its log; B is told 5.
    """

    def __init__(self, session: PostgresSession, settings: Settings) -> None:
        super().__init__(session, settings)
        session.run(lambda t: t.change("SET synchronous_commit = off"), lambda point: None)


@variant("mongo.count_on_secondary", operations=OPERATIONS, settings=MONGO)
class CountOnSecondary(CountPlusOne):
    """Count the documents on a secondary, to spare the primary (N37).

    The primary holds 5 documents, the secondary has 4 of them so far: the count says 4, and 5 is issued again.
    """

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Count what a secondary has."""
        elsewhere: Any = self.documents.with_options(read_preference=pymongo.ReadPreference.SECONDARY_PREFERRED)
        count = elsewhere.count_documents({"scope": ask.place.scope, "period": ask.place.period})
        return count + 1, f"a secondary's count {count}"
