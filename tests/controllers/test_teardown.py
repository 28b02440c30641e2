from controllers.teardown import STEPS
from datalabd.api.meta import TEARDOWN_STEPS


def test_the_steps_that_may_be_abandoned_are_those_of_a_deletion() -> None:
    assert tuple(STEPS) == TEARDOWN_STEPS
