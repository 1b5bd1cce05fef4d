"""One timer for all deadlines."""

from tests.support.clock import FakeClock

from sidecall_server.engine.watchdog import NEVER, Watchdog


class Deadlines:
    """What a watchdog watches: points in time that are still due."""

    def __init__(self, clock: FakeClock) -> None:
        self.due: list[int] = []
        self.looks: list[int] = []
        self.watchdog = Watchdog(clock, self.expire)
        self._clock = clock

    def expire(self, now_ns: int) -> int:
        assert now_ns == self._clock.now_ns()
        self.looks.append(now_ns)
        self.due = [when_ns for when_ns in self.due if when_ns > now_ns]
        return min(self.due, default=NEVER)

    def add(self, when_ns: int) -> None:
        self.due.append(when_ns)
        self.watchdog.arm(when_ns)


async def test_it_looks_at_each_deadline_and_never_in_between() -> None:
    clock = FakeClock()
    deadlines = Deadlines(clock)
    now_ns = clock.now_ns()
    for offset in (30, 10, 20, 10, 40):
        deadlines.add(now_ns + offset)
    assert clock.armed == 1
    await clock.advance(1.0)

    assert deadlines.looks == [now_ns + offset for offset in (10, 20, 30, 40)]
    assert clock.armed == 0


async def test_an_earlier_deadline_takes_the_place_of_a_later_one() -> None:
    clock = FakeClock()
    deadlines = Deadlines(clock)
    now_ns = clock.now_ns()
    deadlines.add(now_ns + 5_000_000_000)
    await clock.advance(1.0)
    deadlines.add(now_ns + 2_000_000_000)
    await clock.advance(1.0)

    assert deadlines.looks == [now_ns + 2_000_000_000]
    assert clock.armed == 1


async def test_a_deadline_made_while_it_looks_is_not_lost() -> None:
    clock = FakeClock()
    looks: list[int] = []

    def expire(now_ns: int) -> int:
        looks.append(now_ns)
        if len(looks) == 1:
            watchdog.arm(now_ns + 5)
        return now_ns + 50 if len(looks) < 3 else NEVER

    watchdog = Watchdog(clock, expire)
    start_ns = clock.now_ns()
    watchdog.arm(start_ns + 1)
    await clock.advance(1.0)

    assert looks == [start_ns + 1, start_ns + 6, start_ns + 56]


async def test_a_deadline_in_the_past_is_looked_at_without_delay() -> None:
    clock = FakeClock()
    deadlines = Deadlines(clock)
    deadlines.add(clock.now_ns() - 1)
    await clock.advance(0)

    assert len(deadlines.looks) == 1


async def test_nothing_is_looked_at_after_the_stop() -> None:
    clock = FakeClock()
    deadlines = Deadlines(clock)
    deadlines.add(clock.now_ns() + 1)
    deadlines.watchdog.stop()
    await clock.advance(1.0)
    assert deadlines.looks == []
    deadlines.add(clock.now_ns() + 1)
    await clock.advance(1.0)

    assert len(deadlines.looks) == 1


def test_never_is_no_deadline() -> None:
    clock = FakeClock()
    Watchdog(clock, lambda _: NEVER).arm(NEVER)

    assert clock.armed == 0
