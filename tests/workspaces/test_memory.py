"""What is remembered for a while."""

from workspaces.memory import Memory


def test_a_value_is_there_until_its_time() -> None:
    memory: Memory[str, int] = Memory(100)
    memory.put("a", 1, 10, until=5)
    assert (memory.get("a", 4.9), memory.get("a", 5), memory.get("a", 4.9), len(memory)) == (1, None, None, 0)


def test_what_nobody_asked_for_longest_goes_first() -> None:
    memory: Memory[str, int] = Memory(30)
    for number, key in enumerate("abc"):
        memory.put(key, number, 10, until=5)
    memory.get("a", 0)
    memory.put("d", 3, 10, until=5)
    assert [memory.get(key, 0) for key in "abcd"] == [0, None, 2, 3]


def test_a_value_replaces_the_one_before_it() -> None:
    memory: Memory[str, int] = Memory(30)
    for number in range(10):
        memory.put("a", number, 20, until=5)
    memory.put("b", 1, 10, until=5)
    assert (memory.get("a", 0), memory.get("b", 0)) == (9, 1)


def test_what_is_larger_than_all_that_fits_is_not_kept() -> None:
    memory: Memory[str, int] = Memory(30)
    memory.put("a", 1, 31, until=5)
    memory.forget("a")
    assert len(memory) == 0
