"""A web process has a core of its own, moves away from a busy one, and leaves the choices of others alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fundapi.web import affinity, serve
from tests.servers import PROJECT

STAT = """\
cpu  300 20 130 1500 60 7 8 9 5 1
cpu0 200 10 100 900 50 4 5 6 5 1
cpu3 100 10 30 600 10 3 3 3 0 0
intr 25113074 0 0
ctxt 5
"""
# A thread that is there before, and one that is started after. No other process claims these cores.
PROCESS = """
import os, threading, time
from pathlib import Path
from fundapi.web import affinity
affinity.INTERVAL = 0.1
affinity.CLAIM = f"\\0test/{os.getpid()}/{{}}"

def thread():
    started = threading.Thread(target=time.sleep, args=(60,), daemon=True)
    started.start()
    return started.native_id

before, cores = thread(), os.sched_getaffinity(0)
own = affinity.Affinity()
threads = [os.getpid(), before, thread()]

def look():
    time.sleep(affinity.INTERVAL)
    own.look()
    return [os.sched_getaffinity(each) for each in threads]
"""
# Another such process, while all cores are held.
NO_CORE_FREE = """
held = [claim for core in cores if (claim := affinity.claimed(core))]  # own has another
for each in threads:
    os.sched_setaffinity(each, cores)
first, own = own, affinity.Affinity()"""
needs_two_cores = pytest.mark.skipif(
    sys.platform != "linux" or serve.cores() < 2, reason="needs Linux and two cores"
)


def run(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROCESS + program],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


@needs_two_cores
def test_all_threads_share_a_core() -> None:
    printed = run("print([os.sched_getaffinity(each) for each in threads] == 3 * [{own.core}])")
    assert printed == "True\n"


@needs_two_cores
def test_each_process_has_another_core_until_there_are_no_more() -> None:
    program = """
given, taken = os.pipe()
children = []
for _ in cores:
    if (child := os.fork()) == 0:
        os.sched_setaffinity(0, cores)
        child = affinity.Affinity()
        os.write(taken, f"{child.core}\\n".encode())
        time.sleep(60)
    children.append(child)
    print(os.read(given, 9).decode(), end="")
print(own.core)
for child in children:
    os.kill(child, 9)
    os.waitpid(child, 0)
"""
    *got, last, own = run(program).split()
    assert last == "None"
    assert sorted(map(int, [*got, own])) == sorted(os.sched_getaffinity(0))


@needs_two_cores
def test_without_a_core_it_runs_on_all_until_one_is_free() -> None:
    program = f"""{NO_CORE_FREE}
print(own.core, look() == 3 * [cores])
held.pop().close()
print(look() == 3 * [{{own.core}}])
"""
    assert run(program) == "None True\nTrue\n"


@needs_two_cores
def test_it_moves_away_from_a_busy_core(tmp_path: Path) -> None:
    program = f"""
left, busy, affinity.STAT = own.core, 0, Path({str(tmp_path / "stat")!r})
def only_its_core_was_busy():
    global busy
    busy += 30 * affinity.TICKS
    lines = [f"cpu{{core}} {{busy * (core == left)}} 0 0 0 0 0 0 0" for core in cores]
    affinity.STAT.write_text("\\n".join(lines))
while own.core == left:
    only_its_core_was_busy()
    seen = look()
print(seen == 3 * [{{own.core}}], affinity.claimed(left) is not None, affinity.claimed(own.core))
"""
    assert run(program) == "True True None\n"


@needs_two_cores
def test_what_taskset_sets_stays() -> None:
    program = """
for each in threads:
    os.sched_setaffinity(each, cores)
print(look() == look() == 3 * [cores], all(affinity.claimed(core) for core in cores))
"""
    assert run(program) == "True True\n"


@needs_two_cores
@pytest.mark.parametrize(
    "sandbox",
    [
        "os.sched_getaffinity = refuse",
        "os.sched_setaffinity = refuse",
        "affinity.socket.socket = refuse",
        "affinity.socket.socket = Unbound",
        "affinity.STAT = Path('/nowhere')",
        "affinity.busy = lambda lines: busy(['cpu0 1 2 3 4'])",  # of old kernels
    ],
)
def test_a_process_starts_where_a_sandbox_forbids_it_a_core(sandbox: str) -> None:
    program = f"""
busy, ask, open_files = affinity.busy, os.sched_getaffinity, len(os.listdir("/proc/self/fd"))
def refuse(*_):
    raise PermissionError(13, "sandbox")
class Unbound(affinity.socket.socket):
    bind = refuse
own._claim.close()
for each in threads:
    os.sched_setaffinity(each, cores)
{sandbox}
print(affinity.start(), [ask(each) for each in threads] == 3 * [cores])
print(len(os.listdir("/proc/self/fd")) - open_files)
"""
    said, answer, files = run(program).splitlines()
    assert "cpu_affinity_unavailable" in said
    assert (answer, files) == ("None True", "-1")  # its former claim


@needs_two_cores
def test_a_process_has_a_core_where_its_threads_are_not_to_be_listed() -> None:
    program = """
own._claim.close()
os.sched_setaffinity(0, cores)
affinity.TASKS = Path("/nowhere")
own = affinity.start()
print(os.sched_getaffinity(0) == {own.core} == os.sched_getaffinity(thread()))
"""
    assert run(program) == "True\n"


@needs_two_cores
def test_what_is_not_to_be_read_for_a_while_moves_nothing() -> None:
    program = """
stat, affinity.STAT = affinity.STAT, Path("/nowhere")
print(look() == 3 * [{own.core}])
affinity.STAT = stat
print(look() == 3 * [{own.core}])
"""
    assert run(program) == "True\nTrue\n"


@needs_two_cores
def test_a_core_that_is_gone_is_not_taken() -> None:
    program = """
left, gone = own.core, max(cores) + 1000  # the kernel refuses it
own._take([gone])
print(own.core == left, affinity.claimed(gone) is not None)
print(look() == 3 * [{own.core}])
"""
    assert run(program) == "True True\nTrue\n"


@needs_two_cores
def test_without_a_core_its_threads_are_left_alone() -> None:
    program = f"""{NO_CORE_FREE}
os.sched_setaffinity(before, {{min(cores)}})
print(look() == [cores, {{min(cores)}}, cores])
"""
    assert run(program) == "True\n"


def test_two_threads_of_one_core_are_taken_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affinity, "SIBLINGS", f"{tmp_path}/{{}}")
    for core, siblings in enumerate(["0,2", "1,3", "0,2", "1,3", "4-5", "4-5", "6"]):
        (tmp_path / str(core)).write_text(f"{siblings}\n")
    second = [affinity.is_second.__wrapped__(core) for core in range(8)]  # the last one has no file
    assert second == [False, False, True, True, False, True, False, False]


def test_a_quarter_of_a_core_is_worth_a_move() -> None:
    assert affinity.quieter({0: 0.5, 1: 0.1, 2: 0.2, 3: 0.3}, 0) == [1, 2]
    assert affinity.quieter({1: 0.1}, 0) == []  # its core is gone


def test_its_own_time_counts_on_its_core_only() -> None:
    last = affinity.Usage(10.0, {0: 5.0, 1: 7.0, 2: 9.0}, 1.0)
    now = affinity.Usage(12.0, {0: 7.0, 1: 7.5, 2: 9.0}, 2.5)
    assert affinity.others(last, now, 0, [0, 1]) == {0: pytest.approx(0.25), 1: 0.25}
    gone = affinity.Usage(12.0, {0: 7.0}, 2.5)
    assert affinity.others(last, gone, 0, [0, 1]) == {0: pytest.approx(0.25)}


def test_busy_is_all_but_idle_and_waiting_for_disks() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    assert affinity.busy(STAT.splitlines()) == {0: 325 / ticks, 3: 149 / ticks}
