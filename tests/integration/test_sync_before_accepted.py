"""`202` is sent only after the request is on disk: seen in the system calls, since killing a process cannot show it."""

import re
from pathlib import Path

import pytest

from tests.support.server import running_server
from tests.support.waiting import eventually_now

QUESTION = "what-the-trace-looks-for"

#: One line of strace -f: pid, time, call, and what it returned. A call that another thread cut in two has two lines.
_CALL = re.compile(r"^(?P<pid>\d+)\s+(?P<call>\w+)\((?P<text>.*)$")
_RESUMED = re.compile(r"^(?P<pid>\d+)\s+<\.\.\. (?P<call>\w+) resumed>(?P<text>.*)$")


class Step:
    """A finished system call: its name, its arguments and result as text."""

    def __init__(self, call: str, text: str) -> None:
        self.call = call
        self.text = text

    @property
    def is_sync_of_the_log(self) -> bool:
        return self.call in ("fsync", "fdatasync") and "fieldpost.db-wal" in self.text and self.text.endswith("= 0")

    @property
    def is_write_of_the_request(self) -> bool:
        return self.call == "pwrite64" and "fieldpost.db-wal" in self.text and QUESTION in self.text

    def sends(self, beginning: str) -> bool:
        return self.call in ("write", "writev", "sendto", "sendmsg") and beginning in self.text

    def receives(self, beginning: str) -> bool:
        return self.call in ("read", "recvfrom", "recvmsg") and beginning in self.text


def _steps(trace: Path) -> list[Step]:
    """The calls in the order in which they returned."""
    begun: dict[str, str] = {}
    steps: list[Step] = []
    for line in trace.read_text(errors="replace").splitlines():
        if resumed := _RESUMED.match(line):
            text = begun.pop(resumed["pid"], "") + resumed["text"]
            steps.append(Step(resumed["call"], text))
        elif call := _CALL.match(line):
            if call["text"].endswith("<unfinished ...>"):
                begun[call["pid"]] = call["text"].removesuffix("<unfinished ...>")
            else:
                steps.append(Step(call["call"], call["text"]))
    return steps


@pytest.mark.timeout(180)
def test_the_sync_lies_between_the_request_and_its_202(data: Path) -> None:
    trace = data.with_suffix(".strace")
    calls = "trace=read,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync"
    # Whole pages of the log are shown, so that the request itself can be seen in them.
    wrapper = ("strace", "-f", "-y", "-s", "8192", "-e", calls, "-o", str(trace))
    with running_server(data, wrapper=wrapper) as server:
        _, key = server.add_device()
        with server.device(key) as device:
            answer = device.post("/v1/requests", json={"input": {"prompt": QUESTION}})
        assert answer.status_code == 202
        eventually_now(lambda: any(step.sends("HTTP/1.1 202") for step in _steps(trace)))
    steps = _steps(trace)

    came = next(number for number, step in enumerate(steps) if step.receives(QUESTION))
    accepted = next(number for number, step in enumerate(steps) if step.sends("HTTP/1.1 202"))
    between = steps[came:accepted]
    written = [number for number, step in enumerate(between) if step.is_write_of_the_request]
    synced = [number for number, step in enumerate(between) if step.is_sync_of_the_log]
    assert written, "the request was not written before it was accepted"
    assert synced, "the log was not synced before the request was accepted"
    assert synced[-1] > written[0], "the log was not synced after the request was written to it"
