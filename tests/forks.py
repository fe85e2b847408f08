"""Run Python programs in forks of one process that has loaded Django already: 0.1 s each, instead of 1.1 s.

``python -m tests.forks SOCKET`` is that process. ``client`` is the text of a program that stands where Python would: it
hands over its arguments, directory, environment and standard streams, and ends as the fork does. A program whose
settings are other ones gets a Python of its own, because settings are read once.
"""

import json
import os
import re
import runpy
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path

import django
from django.core.management import get_commands, load_command_class

CLIENT = """\
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(request)
    sys.exit(int(server.recv(8) or 1))
"""
EXAMPLE = Path(__file__).resolve().parent.parent / ".env.example"
SETTINGS = set(re.findall(r"^#([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))
STREAMS = 3


def client(path: Path) -> str:
    """Return a program that runs its arguments in a fork of the process which listens at ``path``."""
    return CLIENT.format(path=str(path))


def _differs(environment: dict[str, str]) -> bool:
    changed = set(environment.items()) ^ set(os.environ.items())
    return any(name.removesuffix("_FILE") in SETTINGS for name, _ in changed)


def _run(arguments: list[str], environment: dict[str, str]) -> None:
    """Run ``-m MODULE ...`` or ``FILE ...`` as Python does."""
    if _differs(environment) or arguments[0] not in {"-m", "manage.py"}:
        os.execve(sys.executable, [sys.executable, *arguments], environment)
    os.environ.clear()
    os.environ.update(environment)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def _answer(connection: socket.socket) -> None:
    size, streams, _, _ = socket.recv_fds(connection, 4, STREAMS)
    with connection.makefile("rb") as sent:
        arguments, directory, environment = json.loads(sent.read(int.from_bytes(size, "big")))
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        with suppress(BrokenPipeError):  # the client was killed
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        for stream in streams:
            os.close(stream)
        return
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(directory)
    code = 0
    try:
        _run(arguments, environment)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    django.setup()
    for command, app in get_commands().items():
        load_command_class(app, command)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(sys.argv[1])
        server.listen()
        while True:
            connection, _ = server.accept()
            with connection:
                _answer(connection)


if __name__ == "__main__":
    main()
