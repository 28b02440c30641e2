"""Facts that two looks at a lab have in common, and what is made of them once."""

import datetime
from dataclasses import replace

from datalabd.api.meta import ACCOUNT
from datalabd.observed import Observed, derived_lastingly, timeless
from datalabd.stores import YOUNG_SECONDS, DatabaseFacts
from tests.factories import lab, running


def test_time_alone_makes_no_other_facts() -> None:
    here = lab(databases={"db": {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}})
    seen = running(here)
    later = replace(
        seen,
        now=seen.now + datetime.timedelta(hours=1),
        sessions={name: replace(facts, age_seconds=3600.0) for name, facts in seen.sessions.items()},
        databases={host: replace(facts, age_seconds=3600.0) for host, facts in seen.databases.items()},
    )
    assert later != seen
    assert timeless(later) == timeless(seen)


def test_a_database_that_is_not_there_yet_is_no_old_one() -> None:
    here = lab(databases={"db": {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}})
    seen = running(here)
    absent = replace(seen, databases={host: replace(facts, age_seconds=None) for host, facts in seen.databases.items()})
    assert timeless(absent) != timeless(seen)


def test_what_is_derived_lastingly_is_made_once_for_a_lab() -> None:
    made: list[Observed] = []
    derive = derived_lastingly(lambda lab, seen: made.append(seen))
    here = lab()
    derive(here, running(here))
    derive(here, running(here, credentials_copied=False))
    assert made == [Observed(account=ACCOUNT, api_server=running(here).api_server)]
    derive(here, running(here, api_server=(("10.0.0.2", 6443),)))
    derive(lab(), running(here))
    assert len(made) == 3


def test_a_database_whose_login_does_not_come_is_another_fact() -> None:
    here = lab(databases={"db": {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}})
    seen = running(here, databases={"db": DatabaseFacts(age_seconds=5.0)})
    overdue = replace(seen, databases={"db": DatabaseFacts(age_seconds=YOUNG_SECONDS + 1)})
    assert timeless(overdue) != timeless(seen)
