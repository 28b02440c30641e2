"""The page of all parts."""

import datetime

from tests.workspaces.test_look import STATIC
from workspaces.permissions import NOTHING
from workspaces.ui.components import COMPONENTS, SYMBOLS
from workspaces.ui.inputs import Inputs


def test_every_symbol_of_the_sprite_is_shown() -> None:
    sprite = (STATIC / "sprite.svg").read_text()
    assert [name for name in SYMBOLS if f'<symbol id="{name}"' not in sprite] == []
    assert sprite.count("<symbol") == len(SYMBOLS)


def test_it_has_a_form_as_it_is_and_one_that_was_refused() -> None:
    found = COMPONENTS.context(Inputs({}, {}, NOTHING, {}, {}, datetime.datetime(2026, 1, 10, tzinfo=datetime.UTC)))
    assert (found["plain"].is_refused, found["refused"].is_refused) == (False, True)
    assert found["moments"]["days"] == "2026-01-01T00:00:00Z"
