import multiprocessing
import os
import time
from collections.abc import Iterator
from functools import partial
from itertools import count, islice

import pytest

from langhops_cli.data.work import AHEAD, CHUNK, FEW, Workers, usable_cores
from langhops_cli.errors import ENVIRONMENT, UserError


def _square(number: int) -> tuple[int, int]:
    if number % 37 == 0:
        time.sleep(0.01)  # results come back in another order than they are asked for
    return number * number, os.getpid()


def _refuse(bad: int, number: int) -> int:
    if number == bad:
        raise UserError(f"{number} is bad", code=4)
    return number


def _end(number: int) -> int:
    if number == 20:
        os._exit(1)
    return number


@pytest.fixture(scope="module")
def crew() -> Iterator[Workers]:
    with Workers(2) as crew:
        yield crew


def test_results_keep_the_order_of_the_items(crew: Workers) -> None:
    results = list(crew.map(_square, range(300), total=300))
    assert [result for result, _ in results] == [number**2 for number in range(300)]
    assert os.getpid() not in {process for _, process in results}


def test_processes_are_kept_for_the_next_items(crew: Workers) -> None:
    first = {process for _, process in crew.map(_square, range(100), total=100)}
    second = {process for _, process in crew.map(_square, range(100), total=1)}
    assert len(first | second) <= 2
    assert os.getpid() not in first | second


def test_items_are_taken_only_as_fast_as_results_are(crew: Workers) -> None:
    taken = []

    def endless() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    results = crew.map(_square, endless(), total=10**9)
    for wanted in (1, CHUNK * 5):
        list(islice(results, wanted))
        assert len(taken) <= CHUNK * (5 + 2 * AHEAD + 1)


def test_an_error_of_the_user_arrives_as_it_is(crew: Workers) -> None:
    results = crew.map(partial(_refuse, 150), range(300), total=300)
    seen = []
    with pytest.raises(UserError, match=r"^150 is bad$") as caught:
        seen.extend(results)
    assert caught.value.code == 4
    assert seen == list(range(150 // CHUNK * CHUNK))


def test_an_error_of_the_items_arrives_as_it_is(crew: Workers) -> None:
    def items() -> Iterator[int]:
        yield from range(100)
        raise UserError("cut off", code=3)

    with pytest.raises(UserError, match="cut off"):
        list(crew.map(_square, items(), total=200))


def test_leaving_early_ends_the_processes() -> None:
    with Workers(2) as crew:
        started = next(crew.map(_square, count(), total=10**9))
        assert started[0] == 0
        assert len(multiprocessing.active_children()) >= 1
    assert started[1] not in {child.pid for child in multiprocessing.active_children()}
    with pytest.raises(ProcessLookupError):
        os.kill(started[1], 0)


def test_a_process_that_is_killed_is_told() -> None:
    with Workers(2) as crew, pytest.raises(UserError, match="use fewer with --workers") as caught:
        list(crew.map(_end, range(200), total=200))
    assert caught.value.code == ENVIRONMENT


@pytest.mark.parametrize(("number", "total"), [(1, 1000), (0, 1000), (2, FEW)])
def test_little_work_is_done_here(number: int, total: int) -> None:
    with Workers(number) as crew:
        assert {process for _, process in crew.map(_square, range(10), total=total)} == {os.getpid()}


def test_the_cores_are_those_that_may_be_used() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
