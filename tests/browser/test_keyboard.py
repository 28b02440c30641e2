"""Every task with nothing but a keyboard."""

import pytest

from hack.site import Site
from tests.browser.conftest import Visit
from tests.browser.hands import Keyboard
from tests.browser.tasks import TASKS, Task


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
async def test_a_task_is_done_by_the_keyboard_alone(site: Site, visit: Visit, task: Task) -> None:
    visitor = await visit(task.person, permissions=["clipboard-read", "clipboard-write"])
    await task.act(Keyboard(visitor, await visitor.page()), site)
