"""`nibench leaderboard --serve`: real requests, to a real server, from this machine."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nibench.errors import InputError
from nibench.leaderboard import FILES, build
from nibench.record import write_record
from nibench.serve import HOST, Server
from tests.synthetic_records import record, results_folder, score

ROOT = Path(__file__).parent.parent


class Served:
    """A server on a free port, with what it said."""

    def __init__(self, results: Path, out: Path) -> None:
        self.results, self.out, self.said = results, out, list[str]()
        self.server = Server(out, 0, lambda: build([results], out), self.said.append)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def ask(
        self, path: str, method: str = "GET", host: str | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(HOST, self.server.server_port, timeout=30)
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    results, out = results_folder(folder / "results", methods=2, tasks=1), folder / "out"
    build([results], out)
    (folder / "secret.txt").write_text("secret")
    (out / ".hidden").write_text("secret")
    (out / "link.txt").symlink_to(folder / "secret.txt")
    (out / "sub").mkdir()
    (out / "sub" / "a b.txt").write_text("seen")
    found = Served(results, out)
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/index.html?x=1", "index.html", "text/html; charset=utf-8"),
        ("/leaderboard.md", "leaderboard.md", "text/markdown; charset=utf-8"),
        ("/leaderboard.csv", "leaderboard.csv", "text/csv; charset=utf-8"),
        ("/leaderboard.parquet", "leaderboard.parquet", "application/vnd.apache.parquet"),
        ("/sub/a%20b.txt", "sub/a b.txt", "text/plain; charset=utf-8"),
    ],
)
def test_a_file_comes_as_it_is_with_its_type(served: Served, path: str, name: str, kind: str) -> None:
    status, headers, body = served.ask(path)
    assert (status, headers["Content-Type"]) == (200, kind)
    assert body == (served.out / name).read_bytes()
    assert headers["Content-Length"] == str(len(body))
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert served.ask(path, "HEAD") == (200, served.ask(path, "HEAD")[1], b"")


@pytest.mark.parametrize(
    "path",
    [
        *("/secret.txt", "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/sub/../../secret.txt"),
        *("/link.txt", "/.hidden", "/sub", "/sub/", "/%00", "//etc/passwd", "/nothing", "/" + "a" * 5000),
    ],
)
def test_nothing_outside_the_folder_is_served(served: Served, path: str) -> None:
    status, _, body = served.ask(path)
    assert status == 404
    assert b"secret" not in body


def test_another_name_for_this_machine_is_refused(served: Served) -> None:
    """A page of another site, whose name was pointed at this machine, asks under that name."""
    port = served.server.server_port
    assert served.ask("/", host=f"example.org:{port}")[0] == 421
    assert served.ask("/", host="127.0.0.1:1")[0] == 421
    assert served.ask("/", host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_reading_is_possible(served: Served, method: str) -> None:
    assert served.ask("/", method)[0] == 501


def test_new_records_are_on_the_next_page(tmp_path: Path) -> None:
    results, out = results_folder(tmp_path / "results", methods=2, tasks=1), tmp_path / "out"
    served = Served(results, out)
    try:
        assert b"brand_new" not in served.ask("/")[2]
        assert {path.name for path in out.iterdir()} == set(FILES)
        new = record("brand_new", "gender_glass", "glass-s", scores=[score("encodes", 0.5, 0.5)])
        path = write_record(new, {}, results / "records")
        assert b"brand_new" in served.ask("/leaderboard.csv")[2]
        assert b"brand_new" in served.ask("/")[2]
        path.write_text("half a rec")  # as a run leaves it that is killed now
        assert b"brand_new" in served.ask("/")[2]
        assert len(served.said) == 1
        assert served.said[0].startswith(f"Not made again: {path} is not a whole JSON file")
    finally:
        served.server.shutdown()
        served.server.server_close()


def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"Cannot serve at port {port}: Address already in use.*--port"):
            Server(tmp_path, port, lambda: None, print)


def nibench(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "nibench", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip


def test_the_command_prints_the_boards_serves_and_ends_with_one_line(tmp_path: Path) -> None:
    results_folder(tmp_path / "nibench-results", methods=2, tasks=1)
    with nibench("leaderboard", "--serve", cwd=tmp_path) as running:
        assert running.stderr
        assert running.stderr.readline() == "Page: leaderboard/index.html\n"
        said = running.stderr.readline()
        address = said.removeprefix("Serving http://").removesuffix("/; Ctrl-C ends it.\n")
        connection = http.client.HTTPConnection(address, timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().read() == (tmp_path / "leaderboard" / "index.html").read_bytes()
        port = address.partition(":")[2]
        other = nibench("leaderboard", "--serve", "--port", port, cwd=tmp_path)
        out, error = other.communicate(timeout=60)
        assert (other.returncode, out, len(error.splitlines())) == (2, "", 1)
        assert f"Cannot serve at port {port}: Address already in use" in error
        running.send_signal(signal.SIGINT)
        try:
            out, error = running.communicate(timeout=60)
        finally:
            running.kill()  # a server that does not end must not hold the tests
    assert (running.returncode, error) == (0, "No longer serving.\n")
    assert "random_ranking none" in out
    assert max(map(len, out.splitlines())) <= 80
