"""An untimed run of a program's tokens: does it end, and what surely happens before what.

Four agents act: LOAD's data side, the ARRAY, POST and STORE. A clock says for each of them how many of
its commands are surely over. The n-th wait on a counter is met by the n-th post.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .isa import TOKEN_COUNT_MAX, TOKENS, Opcode, Token, Unit, unit_of
from .program import Program, ProgramError

__all__ = ["ARRAY", "LOAD", "POST", "STORE", "Clock", "Trace", "describe", "trace_tokens"]

Clock = tuple[int, int, int, int]
"""How many commands of LOAD, EXEC (array side), EXEC (POST side) and STORE are surely over."""
LOAD, ARRAY, POST, STORE = range(4)
_AGENTS = ("LOAD", "EXEC", "POST", "STORE")
_UNIT_AGENT = {Unit.LOAD: LOAD, Unit.EXEC: ARRAY, Unit.STORE: STORE}


@dataclass(frozen=True, slots=True)
class Trace:
    """One order in which the commands can run, which stands for all."""

    order: list[int]
    """Command numbers, END left out."""
    number: list[int]
    """For each command, its number within its unit."""
    start: list[Clock]
    """For each command, what is surely over when it starts."""


def describe(program: Program, index: int) -> str:
    """A command as messages name it: number, opcode and layer."""
    layer = program.layers[program.layer_of[index]]
    return f"command {index} ({program.commands[index].opcode.name}, layer {layer})"


def _names(mask: int) -> str:
    return ", ".join(token.name for token in Token if mask >> token & 1)


def _join(a: Clock, b: Clock) -> Clock:
    return (max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))


def _reach(clock: Clock, agent: int, count: int) -> Clock:
    done = list(clock)
    done[agent] = count
    return (done[0], done[1], done[2], done[3])


def _check_owners(program: Program) -> None:
    """Nothing; ProgramError where two units wait on, or two agents post, one counter."""
    waiter: dict[int, tuple[Unit, int]] = {}
    poster: dict[int, tuple[int, int]] = {}
    for index, command in enumerate(program.commands):
        unit = unit_of(command.opcode)
        if unit is None:
            if command["wait"] or command["post"]:
                raise ProgramError(f"{describe(program, index)}: END takes no tokens")
            continue
        for token in range(TOKENS):
            name = Token(token).name
            if command["wait"] >> token & 1:
                owner, other = waiter.setdefault(token, (unit, index))
                if owner is not unit:
                    raise ProgramError(
                        f"{describe(program, index)} waits on {name}, which "
                        f"{describe(program, other)} waits on too: a counter is waited on by one "
                        "unit only"
                    )
            for field, agent in (("post", _UNIT_AGENT[unit]), ("post_drain", POST)):
                if command[field] >> token & 1:
                    first, other = poster.setdefault(token, (agent, index))
                    if first != agent:
                        raise ProgramError(
                            f"{describe(program, index)} posts {name} from {_AGENTS[agent]}, which "
                            f"{describe(program, other)} posts from {_AGENTS[first]}: with two "
                            "posters a wait doesn't say who was meant"
                        )


class _Run:
    """The state of the untimed run."""

    def __init__(self, program: Program) -> None:
        self.program = program
        count = len(program.commands)
        self.order: list[int] = []
        self.number = [0] * count
        self.start: list[Clock] = [(0, 0, 0, 0)] * count
        self._issued = dict.fromkeys(Unit, 0)
        self._counters: list[deque[tuple[Clock, int]]] = [deque() for _ in range(TOKENS)]
        self._posts: list[list[tuple[Clock, int]]] = [[] for _ in range(TOKENS)]
        self._waits: list[list[int]] = [[] for _ in range(TOKENS)]
        self._waiter: dict[int, int] = {}
        self._clock: dict[int, Clock] = dict.fromkeys(range(4), (0, 0, 0, 0))
        self._load_start: Clock = (0, 0, 0, 0)

    def ready(self, index: int) -> bool:
        """Whether the command's tokens are there."""
        wait = self.program.commands[index]["wait"]
        return all(self._counters[t] for t in range(TOKENS) if wait >> t & 1)

    def step(self, index: int) -> None:
        """Nothing; runs one command."""
        command = self.program.commands[index]
        unit = unit_of(command.opcode)
        assert unit is not None
        number = self.number[index] = self._issued[unit]
        self._issued[unit] += 1
        agent = _UNIT_AGENT[unit]
        # LOAD's address side takes a command before the data of the one before has come.
        clock = self._load_start if unit is Unit.LOAD else self._clock[agent]
        if command.opcode in (Opcode.GEOMETRY, Opcode.OUTPUT):
            clock = _join(clock, self._clock[POST])  # taken when no drain is pending
        for token in range(TOKENS):
            if command["wait"] >> token & 1:
                clock = _join(clock, self._counters[token].popleft()[0])
                self._waits[token].append(number)
                self._waiter[token] = agent
        self.start[index] = clock
        if unit is Unit.LOAD:
            self._load_start = clock
        end = _reach(_join(clock, self._clock[agent]), agent, number + 1)
        self._clock[agent] = end
        self._post(index, command["post"], end)
        if unit is Unit.EXEC:
            drained = _reach(_join(end, self._clock[POST]), POST, number + 1)
            self._clock[POST] = drained
            self._post(index, command["post_drain"], drained)
        self.order.append(index)

    def _post(self, index: int, mask: int, clock: Clock) -> None:
        for token in range(TOKENS):
            if mask >> token & 1:
                self._counters[token].append((clock, index))
                self._posts[token].append((clock, index))

    def check_counts(self) -> None:
        """Nothing; ProgramError for counters that are left over or may pass their maximum."""
        for token in range(TOKENS):
            if self._counters[token]:
                raise ProgramError(
                    f"{describe(self.program, self._counters[token][0][1])} posts "
                    f"{Token(token).name}, for which nothing waits: a run must leave all counters "
                    "at 0"
                )
            waits, agent = self._waits[token], self._waiter.get(token, 0)
            taken = 0
            for count, (clock, index) in enumerate(self._posts[token], 1):
                while taken < len(waits) and waits[taken] < clock[agent]:
                    taken += 1
                if count - taken > TOKEN_COUNT_MAX:
                    raise ProgramError(
                        f"{describe(self.program, index)} may take {Token(token).name} to "
                        f"{count - taken}; a counter holds {TOKEN_COUNT_MAX}"
                    )


def trace_tokens(program: Program) -> Trace:
    """The untimed run, with dispatch in order and queues as deep as the machine's.

    Each counter is waited on by one unit, so whether the run ends doesn't depend on the order.

    Raises:
        ProgramError: a deadlock, with all commands that wait; tokens left over; a counter with two
            waiting units or two posters, or one that may overflow.
    """
    _check_owners(program)
    run = _Run(program)
    depth = program.machine.queues.commands
    queues: dict[Unit, deque[int]] = {unit: deque() for unit in Unit}
    head, last = 0, len(program.commands) - 1
    while True:
        moved = False
        while head < last:
            unit = unit_of(program.commands[head].opcode)
            if unit is None or len(queues[unit]) >= depth:
                break
            queues[unit].append(head)
            head += 1
            moved = True
        for queue in queues.values():
            while queue and run.ready(queue[0]):
                run.step(queue.popleft())
                moved = True
        if not moved:
            break
    stuck = [queue[0] for queue in queues.values() if queue]
    if stuck:
        waits = "; ".join(
            f"{describe(program, i)} waits for {_names(program.commands[i]['wait'])}" for i in sorted(stuck)
        )
        raise ProgramError(f"deadlock: {waits}")
    run.check_counts()
    return Trace(run.order, run.number, run.start)
