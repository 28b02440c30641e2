"""Every task in a browser that runs no scripts."""

import pytest

from hack.site import Site
from tests.browser.conftest import Visit
from tests.browser.hands import NoScripts
from tests.browser.tasks import TASKS, Task


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
async def test_a_task_is_done_without_scripts(site: Site, visit: Visit, task: Task) -> None:
    visitor = await visit(task.person, java_script_enabled=False)
    await task.act(NoScripts(visitor, await visitor.page()), site)
