"""Ports for child processes."""

import socket

from localcloud.processes import free_port


def test_free_port_is_given_once_and_can_be_listened_on() -> None:
    """A child takes seconds to start: its port is nobody else's meanwhile."""
    given = [free_port() for _ in range(500)]

    assert len({*given}) == 500
    with socket.create_server(("127.0.0.1", given[0])) as server:
        assert server.getsockname()[1] == given[0]
