"""A running server: the clock, viewers, sessions, access, and clients that misbehave."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import simplejpeg
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed, InvalidStatus

from daydrive.drive.access import COOKIE, Access
from daydrive.drive.scenario import Scenario
from daydrive.drive.server import create_app
from daydrive.drive.sessions import Sessions
from helpers.driving import INVALID, Page, connected, road_scenario, serving

TOKEN = "a-long-enough-token"


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return road_scenario(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def address(scenario: Scenario) -> Iterator[str]:
    with serving(scenario, seconds=1.5) as found:
        yield found


def take_steps(page: Page, count: int) -> float:
    """Wait for steps of a drive; the seconds they took."""
    last, started = page.header["step"] + count, time.monotonic()
    page.wait(lambda _: page.header["step"] >= last)
    return time.monotonic() - started


def first_message(address: str, session: str | None = None) -> dict[str, Any]:
    page = Page(address, session)
    message = page.next()
    page.socket.close()
    return message


def test_first_viewer_gets_moments_and_drives(address: str) -> None:
    with Page(address) as page:
        assert page.welcome["hz"] == 10 and page.welcome["image_size"] == [64, 64]
        assert len(page.welcome["moments"]) == 12
        while 2 not in page.thumbnails:  # drawn before this page came, or after
            page.next()
        assert page.thumbnails[2].startswith("data:image/jpeg;base64,")
        assert page.status["driving"] and page.status["paused"] and page.header["step"] == 0
        assert simplejpeg.decode_jpeg(page.images[0]).shape == (64, 64, 3)
        time.sleep(0.3)
        assert page.answer(type="pace", factor=1.0)["paused"] and page.header["step"] == 0


def test_drive_keeps_its_rate_in_real_time_and_in_slow_motion(address: str) -> None:
    with Page(address) as page:
        page.answer(type="pause", on=False)
        take_steps(page, 2)
        assert take_steps(page, 10) > 0.7
        page.answer(type="pace", factor=0.2)
        take_steps(page, 2)
        assert take_steps(page, 2) > 0.7


def test_keys_change_the_newest_frame_and_are_acknowledged(address: str) -> None:
    with Page(address) as page:
        page.answer(type="pace", factor=0.1)  # a second per step
        page.answer(type="pause", on=False)
        page.wait(lambda message: message["type"] == "frame" and message["step"] == 1)
        before = page.images[0]
        sequence = page.act(steering=1.0, key=True)
        header = page.wait(lambda message: message["type"] == "frame")
        assert (header["step"], header["sequence"], header["action"][0]) == (1, sequence, 1.0)
        assert page.images[0] != before
        page.act(steering=0.5)  # without a key it waits for the next step
        newest = page.act(steering=-1.0)
        header = page.wait(lambda message: message["type"] == "frame")
        assert (header["step"], header["sequence"], header["action"][0]) == (2, newest, -1.0)


def test_single_steps_rewinding_and_another_moment(address: str) -> None:
    with Page(address) as page:
        page.act(throttle=1.0)
        for step in (1, 2, 3):
            page.answer(type="step")
            assert page.header["step"] == step
        third = page.images[0]
        assert page.answer(type="rewind", step=2)["paused"] and page.header["step"] == 2
        page.act(throttle=1.0)
        page.answer(type="step")
        assert page.images[0] == third and page.header["action"][1] == 1.0
        assert "steps 0 to 3 can" in page.answer(type="rewind", step=9)["message"]
        assert page.answer(type="reset", moment=4)["moment"] == 4 and page.header["step"] == 0
        assert "there is no moment 12" in page.answer(type="reset", moment=12)["message"]
        assert page.answer(type="reset")["moment"] == 4


def test_recorded_actions_drive_and_the_person_takes_over(address: str) -> None:
    with Page(address) as page:
        recorded = page.header["recorded"]
        assert page.answer(type="mode", mode="recorded")["mode"] == "recorded"
        page.answer(type="step")
        assert page.header["action"] == recorded != page.header["recorded"]
        page.answer(type="mode", mode="human")
        page.act(steering=0.25)
        page.answer(type="step")
        assert page.header["action"][0] == 0.25


def test_preview_shows_left_and_right_without_changing_the_drive(address: str) -> None:
    with Page(address) as page, Page(address, page.welcome["session"]) as undisturbed:
        page.answer(type="step")
        page.answer(type="preview", on=True)
        shown = page.wait(lambda message: message["type"] == "preview")
        assert shown["seconds"] == 1.0 and len(shown["sizes"]) == 2
        page.answer(type="preview", on=False)
        page.answer(type="step")
        frame = page.images[0]
        page.answer(type="rewind", step=1)
        page.answer(type="step")
        assert page.images[0] == frame
        undisturbed.wait(lambda message: message["type"] == "status" and message["viewers"] == 2)


def test_viewers_of_one_session_see_the_same_and_hand_over_the_wheel(address: str) -> None:
    with Page(address) as first, Page(address, first.welcome["session"]) as second:
        assert not second.status["driving"]
        assert "take the wheel" in second.answer(type="step")["message"]
        first.send(type="step")
        for page in (first, second):
            page.wait(lambda message: message["type"] == "frame" and message["step"] == 1)
        assert second.images == first.images
        second.send(type="wheel")
        assert second.wait(lambda message: message.get("driving") is True)["viewers"] == 2
        first.wait(lambda message: message.get("driving") is False)
        second.socket.close()
        status = first.wait(lambda message: message["type"] == "status" and message["viewers"] == 1)
        assert status["driving"] and status["paused"]


def test_sessions_are_limited_and_closed_when_unwatched(address: str) -> None:
    with Page(address) as first, Page(address) as second:
        assert first.welcome["session"] != second.welcome["session"]
        first.answer(type="step")
        assert second.header["step"] == 0
        third = Page(address)
        assert "2 sessions are open, the largest number" in third.next()["message"]
        with pytest.raises(ConnectionClosed) as closed:
            third.next()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 4000
    name = second.welcome["session"]
    with Page(address, name) as again:  # a page that is loaded again
        assert again.welcome["session"] == name and again.status["driving"]
    while (answer := first_message(address, name))["type"] == "welcome":
        time.sleep(2.0)
    assert f"there is no session {name}" in answer["message"]


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ({"type": "hello", "version": 2}, "version 2 of the protocol and this server version 1"),
        ({"type": "pause", "on": True}, "first message has to be hello"),
        ({"type": "hello"}, "version: Field required"),
        ("hello", "JSON"),
        ({"type": "hello", "version": 1, "session": "nosuch"}, "no session nosuch"),
    ],
)
def test_handshake_rejects(address: str, first: object, message: str) -> None:
    with connected(f"{address}/drive") as connection:
        connection.send(first if isinstance(first, str) else json.dumps(first))
        answer = json.loads(connection.recv())
        assert answer["type"] == "error" and message in answer["message"]
        with pytest.raises(ConnectionClosed):
            connection.recv()


def test_invalid_messages_disturb_nobody(address: str) -> None:
    """More than a thousand, over several connections, while another viewer drives."""
    texts = [message if isinstance(message, str | bytes) else json.dumps(message) for message, _ in INVALID.values()]
    with Page(address) as driver:
        driver.answer(type="pause", on=False)
        sent = 0
        while sent < 1000:
            with Page(address, driver.welcome["session"]) as bad:
                errors = 0
                for text in texts * 4:
                    bad.socket.send(text)
                    sent += 1
                try:
                    while True:
                        errors += bad.next()["type"] == "error"
                except ConnectionClosed as closed:
                    assert closed.rcvd is not None and closed.rcvd.code in (1008, 1009)
                assert errors > 20
        take_steps(driver, 6)


def test_flood_is_disconnected(address: str) -> None:
    with Page(address) as driver, Page(address, driver.welcome["session"]) as flooding:
        driver.answer(type="pause", on=False)
        with pytest.raises(ConnectionClosed):
            for _ in range(3000):
                flooding.socket.send('{"type":"wheel"}')
            while True:
                flooding.next()
        driver.send(type="wheel")
        driver.send(type="pause", on=False)
        take_steps(driver, 6)


def test_vanished_and_unread_clients_leave_memory_flat(address: str) -> None:
    """20 clients close their sockets without a word; another never reads, while images flow for the driver."""
    with Page(address) as driver:
        driver.answer(type="pause", on=False)
        deaf = socket.create_connection(tuple(address.split(":")))  # type: ignore[arg-type]
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(
            f"GET /drive HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        hello = json.dumps({"type": "hello", "version": 1, "session": driver.welcome["session"]}).encode()
        time.sleep(0.2)
        deaf.sendall(b"\x81" + bytes([0x80 | len(hello)]) + bytes(4) + hello)
        take_steps(driver, 6)
        before = psutil.Process().memory_info().rss
        for _ in range(20):
            page = Page(address, driver.welcome["session"])
            page.next()
            page.socket.socket.close()
        take_steps(driver, 13)
        driver.wait(lambda message: message["type"] == "status" and message["viewers"] <= 2)
        assert psutil.Process().memory_info().rss - before < 20 * 2**20
        deaf.close()


def test_only_this_machine_and_own_page_may_connect(address: str, scenario: Scenario) -> None:
    host = {"host": address}
    with TestClient(create_app(Sessions(scenario, 1), Access()), base_url=f"http://{address}") as client:
        page = client.get("/")
        assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
        assert client.get("/", headers={"host": "evil.example:8000"}).status_code == 403
        assert client.get("/", headers={**host, "origin": "http://evil.example"}).status_code == 403
        assert client.get("/", headers={**host, "origin": f"http://{address}"}).status_code == 200
        assert client.get("/../pyproject.toml").status_code == 404
        assert client.post("/").status_code == 405
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}):
        with pytest.raises(InvalidStatus) as rejected:
            Page(address, additional_headers=headers)
        assert rejected.value.response.status_code == 403
        assert b"other sites" in (rejected.value.response.body or b"")
    with Page(address, additional_headers={"Origin": f"http://{address}"}) as page_of_ours:
        assert page_of_ours.welcome


def test_token_is_needed_where_one_is_set(scenario: Scenario) -> None:
    access = Access(TOKEN)
    with TestClient(create_app(Sessions(scenario, 1), access), follow_redirects=False) as client:
        assert client.get("/").status_code == 401 and "address" in client.get("/").text
        assert client.get("/?token=wrong").status_code == 401
        entered = client.get(f"/?token={TOKEN}&session=abc")
        assert entered.status_code == 303 and entered.headers["location"] == "/?session=abc"
        assert "httponly" in entered.headers["set-cookie"].lower()
        assert client.get("/").status_code == 200
        client.cookies.clear()
        assert client.get("/", headers={"cookie": f"{COOKIE}=nonsense"}).status_code == 401
    with serving(scenario, access) as address:
        for query in ("", "?token=wrong"):
            with pytest.raises(InvalidStatus) as rejected:
                connected(f"{address}/drive{query}")
            assert rejected.value.response.status_code == 401
        with Page(address, additional_headers={"Cookie": f"{COOKIE}={TOKEN}"}) as page:
            assert page.welcome
