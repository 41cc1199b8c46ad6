"""Many small writes as few larger ones: a transaction costs much the same for one row as for a hundred."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Grouped(Generic[T, R]):
    """Calls that come while others are under way wait, and are then made as one; a lone call waits for nothing.

    Whoever's turn it is makes the call for all that wait, so that there is no task beside the callers'.

    Args:
        run: takes what each call is about, and returns their results in the same order. What it raises, each caller is
            told. It is run again for the others of a batch that was given up because one caller was cancelled.
        max_calls: calls made as one at most.
    """

    def __init__(self, run: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, max_calls: int) -> None:
        self._run = run
        self._max_calls = max_calls
        self._waiting: deque[_Call[T, R]] = deque()
        self._is_busy = False

    async def call(self, item: T) -> R:
        """What became of this one."""
        if self._is_busy:
            call = _Call[T, R](item)
            self._waiting.append(call)
            try:
                await call.woken.wait()
            except asyncio.CancelledError:
                self._leave(call)
                raise
            if not call.is_its_turn:
                return call.outcome()
        self._is_busy = True
        return await self._lead(item)

    async def _lead(self, item: T) -> R:
        others = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_calls - 1))]
        try:
            result, *results = await self._run([item, *(call.item for call in others)])
        except asyncio.CancelledError:
            self._waiting.extendleft(call for call in reversed(others) if not call.has_left)
            raise
        except Exception as error:
            for call in others:
                call.fail(error)
            raise
        else:
            for call, its_result in zip(others, results, strict=True):
                call.succeed(its_result)
            return result
        finally:
            self._pass_on()

    def _leave(self, call: "_Call[T, R]") -> None:
        call.has_left = True
        if call in self._waiting:
            self._waiting.remove(call)
        elif call.is_its_turn:
            self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting.popleft().give_turn()
        else:
            self._is_busy = False


class _Call(Generic[T, R]):
    """One that waits for its result, or for its turn to make the call itself."""

    def __init__(self, item: T) -> None:
        self.item = item
        self.woken = asyncio.Event()
        self.is_its_turn = False
        self.has_left = False
        self._results: list[R] = []
        self._error: Exception | None = None

    def give_turn(self) -> None:
        self.is_its_turn = True
        self.woken.set()

    def succeed(self, result: R) -> None:
        self._results = [result]
        self.woken.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self.woken.set()

    def outcome(self) -> R:
        if self._error is not None:
            raise self._error
        (result,) = self._results
        return result
