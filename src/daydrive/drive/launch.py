"""Starting the server, and repeating a recorded drive."""

from __future__ import annotations

import asyncio
import logging
import sys
import webbrowser
from pathlib import Path

from daydrive.drive.access import bind, make_access
from daydrive.drive.action_log import Replayed, read_action_log, replay
from daydrive.drive.protocol import MAX_MESSAGE
from daydrive.drive.scenario import Scenario
from daydrive.drive.server import create_app
from daydrive.drive.sessions import Sessions
from daydrive.errors import UserError


def serve(scenario: Scenario, host: str, port: int, token: str | None, sessions: int, browser: bool) -> None:
    """Serve until interrupted. port: 0 for any free one. browser: whether to open the page.

    Raises UserError where the address cannot be used.
    """
    import uvicorn

    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of every page that vanished
    access = make_access(host, token)
    listener = bind(host, port)
    with listener:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listener.getsockname()[1]}/" + (f"?token={access.token}" if access.token else "")

        async def run() -> None:
            app = create_app(Sessions(scenario, sessions), access)
            config = uvicorn.Config(
                app, log_level="error", ws_max_size=4 * MAX_MESSAGE, ws_per_message_deflate=False, lifespan="on"
            )
            server = uvicorn.Server(config)
            print(f"drive at {address} (Ctrl-C ends)", flush=True)
            if browser and sys.stdout.isatty():
                webbrowser.open(address)
            await server.serve(sockets=[listener])

        asyncio.run(run())


def replay_file(scenario: Scenario, file: Path) -> Replayed:
    """Repeat the drive of an action log. Raises UserError if it was recorded with something else."""
    log = read_action_log(file)
    recorded, own = log.header.get("driven"), scenario.identity()
    if not isinstance(recorded, dict):
        raise UserError(f"{file}:1: the action log does not say what was driven")
    for entry in ("simulator", "sha256", "moments", "image_size", "hz"):
        if recorded.get(entry) != own.get(entry):
            raise UserError(
                f"{file} was recorded with another {entry} ({recorded.get(entry)}, not {own.get(entry)}); give the "
                "same --checkpoint, --data-root or --env"
            )
    return replay(log.path, scenario.simulators()[0], scenario.moments)
