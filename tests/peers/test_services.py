"""Tests of services by name in `examples/python/jsoncomm.py`: the checks are those of the library."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import unittest
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/python"))

import jsoncomm
from jsoncomm import KINDS, Server, connect

# A folder that only root and this user can change.
FOLDER = Path(os.environ["JSONCOMM_TESTS_FOLDER"]).resolve()
NAME = "service:test.files"
STRANGER = 4711


def refused(path: Path, reason: str) -> Any:
    """Returns what checks that a service is refused because of this file."""
    return Refused(str(path), reason)


class Refused:
    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason

    def __call__(self, test: unittest.TestCase) -> None:
        for kind in [None, *KINDS]:
            with test.assertRaises(PermissionError) as raised:
                connect(NAME, kind)
            test.assertEqual(raised.exception.filename, self.path)
            test.assertIn(self.reason, str(raised.exception))


class Services(unittest.TestCase):
    def setUp(self) -> None:
        self.place = FOLDER / "python"
        self.addCleanup(shutil.rmtree, self.place)
        self.entry = self.place / "registry" / "test.files"
        for name in ("", "registry", "run"):
            (self.place / name).mkdir()
            (self.place / name).chmod(0o755)
        variables = {"JSONCOMM_REGISTRY": str(self.place / "registry"), "XDG_RUNTIME_DIR": ""}
        environment = unittest.mock.patch.dict(os.environ, variables)
        environment.start()
        self.addCleanup(environment.stop)

    @contextlib.contextmanager
    def serving(self, kind: str = "seqpacket", link: bool = True) -> Iterator[Path]:
        path = self.place / "run" / "a.sock"
        with Server() as server:
            server.method("test.files.list", lambda: ["a.txt"])
            server.bind(path, kind)
            if link:
                self.entry.symlink_to("../run/a.sock")
            loop = threading.Thread(target=server.run)
            loop.start()
            try:
                yield path
            finally:
                server.stop()
                loop.join()
                self.entry.unlink(missing_ok=True)

    def called(self) -> None:
        with connect(NAME) as connection, connection.call("test.files.list") as files:
            self.assertEqual(files.value, ["a.txt"])

    def test_a_service_is_called_by_its_name(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for kind in KINDS:
            with self.serving(kind):
                self.called()
                self.assertTrue(self.entry.is_symlink())
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_a_service_that_is_not_there_is_missing_and_no_path_is_a_name(self) -> None:
        with self.assertRaises(FileNotFoundError):
            connect(NAME)
        self.entry.symlink_to("../run/none")
        with self.assertRaises(FileNotFoundError):
            connect(NAME)
        for name in ("", ".", "a..b", "../registry/test.files", "a/b", ".lock", "rpc.a", "a" * 256, "ä", "a\n"):
            with self.assertRaises(ValueError, msg=name):
                connect("service:" + name)

    def test_a_directory_that_others_may_write_to_is_refused(self) -> None:
        with self.serving():
            for name in ("registry", "run", ""):
                folder = self.place / name
                for mode in (0o777, 0o775, 0o757):
                    folder.chmod(mode)
                    refused(folder, "can be changed by other users")(self)
                folder.chmod(0o755)
                self.called()

    def test_a_directory_with_the_sticky_bit_may_only_lead_to_a_directory(self) -> None:
        with self.serving():
            self.place.chmod(0o1777)
            self.called()
            (self.place / "run").chmod(0o1777)
            refused(self.place / "run", "can be changed")(self)
            (self.place / "run").chmod(0o755)
            (self.place / "registry").chmod(0o1777)
            refused(self.place / "registry", "can be changed")(self)

    def test_what_another_user_owns_is_refused(self) -> None:
        with self.serving() as path:
            if os.geteuid() != 0:  # others are strangers to whom this is another user
                with unittest.mock.patch("os.geteuid", return_value=os.geteuid() + 1):
                    with self.assertRaises(PermissionError):
                        connect(NAME)
                return
            for file in (self.place, self.place / "registry", self.entry, self.place / "run", path):
                try:
                    os.chown(file, STRANGER, STRANGER, follow_symlinks=False)
                except OSError:
                    return  # root of a user namespace
                refused(file, f"belongs to user {STRANGER}")(self)
                os.chown(file, 0, 0, follow_symlinks=False)
            self.called()

    def test_links_in_a_loop_are_refused_and_forty_are_followed(self) -> None:
        with self.serving(link=False):
            (self.place / "run" / "0").symlink_to("a.sock")
            for number in range(1, 40):
                (self.place / "run" / str(number)).symlink_to(str(number - 1))
            self.entry.symlink_to("../run/38")
            self.called()
            self.entry.unlink()
            self.entry.symlink_to("../run/39")
            with self.assertRaises(OSError) as raised:
                connect(NAME)
            self.assertIn("symbolic links", str(raised.exception))

    def test_only_a_link_is_an_entry_and_only_to_a_socket(self) -> None:
        self.entry.write_text("../run/a.sock")
        refused(self.entry, "an entry is a symbolic link")(self)
        self.entry.unlink()
        file = self.place / "run" / "file"
        file.write_text("")
        for target, seen in (("../run/file", file), ("../run", self.place / "run")):
            self.entry.symlink_to(target)
            refused(seen, "it is no socket")(self)
            self.entry.unlink()

    def test_a_server_of_another_user_gets_no_message(self) -> None:
        with self.serving():
            with unittest.mock.patch.object(jsoncomm.Peer, "of_connection", return_value=jsoncomm.Peer(STRANGER)):
                with self.assertRaises(PermissionError) as raised:
                    connect(NAME)
            self.assertIn(f"runs as user {STRANGER}", str(raised.exception))

    def test_the_variables_are_ignored_with_more_rights_than_the_caller(self) -> None:
        own = str(self.place / "registry")
        with unittest.mock.patch.dict(os.environ, {"JSONCOMM_REGISTRY": f":relative:{own}", "XDG_RUNTIME_DIR": "/x"}):
            self.assertEqual(jsoncomm.registry(), [own, "/x/jsoncomm", "/run/jsoncomm"])
            with unittest.mock.patch("jsoncomm._is_secure", return_value=True):
                self.assertEqual(jsoncomm.registry(), ["/run/jsoncomm"])


if __name__ == "__main__":
    unittest.main()
