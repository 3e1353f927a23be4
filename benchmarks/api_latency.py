"""Matches against a slow server: wall time against the ideal, and memory as matches add up.

A server on loopback, in a process of its own, answers every chat request after a fixed latency.
A model behind it plays a matrix game of two moves against tit-for-tat, as a tournament does, with
records and answer log. Run `python -m benchmarks.api_latency`; it prints one line of JSON.
"""

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from comity.commands.play_setup import play_config
from comity.commands.tournament import play_and_record
from comity.config.player_names import parse_player
from comity.evaluation.tournament.records import read_matches
from comity.evaluation.tournament.round_robin import Batch, RoundRobin
from comity.evaluation.tournament.schedule import BATCH
from comity.experiments.agent_plans import plan_agent
from comity.games import make_game
from comity.runs.folder import RunFolder

ANSWER = json.dumps(
    {
        "object": "chat.completion",
        "model": "slow-1",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "A"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1},
    }
).encode()


async def serve(latency: float) -> None:
    """Answer "A" to everything after `latency` seconds, for ever; prints the port."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").lower().split("\r\n")
                length = [int(one.split(":")[1]) for one in lines if "content-length:" in one]
                await reader.readexactly(sum(length))
                if lines[0].startswith("post"):
                    await asyncio.sleep(latency)
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                    + f"content-length: {len(ANSWER)}\r\n\r\n".encode()
                    + ANSWER
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The client closed the connection.
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def slow_server(latency: float) -> Iterator[str]:
    """A server in a process of its own; its base URL."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.api_latency", "--serve", str(latency)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    try:
        assert child.stdout is not None
        yield f"http://127.0.0.1:{int(child.stdout.readline())}/v1"
    finally:
        child.terminate()
        child.wait()


class Measured(RoundRobin):
    """A round robin that notes the memory of this process after every batch."""

    resident: list[tuple[int, float]]
    """Matches stored so far, and megabytes of resident memory then."""

    def play(self, *args: Any, **more: Any) -> Iterator[Batch]:
        self.resident, done = [], 0
        for batch in super().play(*args, **more):
            yield batch  # It is stored when the next one is asked for.
            done += len(batch.matches)
            self.resident.append((done, psutil.Process().memory_info().rss / 1e6))


def measure(matches: int, rounds: int, concurrency: int, latency: float) -> dict[str, Any]:
    """Play the matches; seconds, the ideal, requests, and memory at a quarter and at the end.

    The ideal counts full waves of requests: every batch of a tournament waits `latency` seconds
    for each round and each `concurrency` of its matches.
    """
    with slow_server(latency) as url, tempfile.TemporaryDirectory() as output:
        settings = [
            *("api=local", "api.model=slow-1", f"api.base_url={url}"),
            *(f"api.concurrency={concurrency}", f"game.length.rounds={rounds}"),
            f"output={output}",
        ]
        config = play_config("prisoners_dilemma", ["base", "base"], {}, settings, 1, 0)
        plans = [plan_agent(parse_player(name), config) for name in ("api", "tit_for_tat")]
        pair = (plans[0].name, plans[1].name)
        made: list[Measured] = []

        def robin(players: Any) -> RoundRobin:
            made.append(Measured(make_game(config.game), players, matches, 0, [pair]))
            return made[0]

        with RunFolder.create(config) as folder:
            folder.resume_with = "nothing"
            began, computed = time.perf_counter(), time.process_time()
            play_and_record(plans, robin, folder, "matches")
            seconds = time.perf_counter() - began
            computed = time.process_time() - computed
            stored = sum(1 for _ in read_matches(folder.path))
            answers = (folder.path / "api_answers.jsonl").read_bytes().count(b"\n")
    batches = [min(BATCH, matches - first) for first in range(0, matches, BATCH)]
    waves = sum(math.ceil(size / concurrency) for size in batches)
    resident = made[0].resident
    return {
        "matches": stored,
        "rounds": rounds,
        "answers": answers,
        "latency": latency,
        "concurrency": concurrency,
        "seconds": round(seconds, 2),
        "processor_seconds": round(computed, 2),
        "ideal": round(rounds * latency * waves, 2),
        "resident_mb": {
            "quarter": round(next(mb for done, mb in resident if done >= matches / 4), 1),
            "end": round(resident[-1][1], 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=float, metavar="LATENCY", help=argparse.SUPPRESS)
    parser.add_argument("--matches", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.3, help="seconds")
    given = parser.parse_args()
    if given.serve is not None:
        asyncio.run(serve(given.serve))
        return
    measured = measure(given.matches, given.rounds, given.concurrency, given.latency)
    measured["ratio"] = round(measured["seconds"] / measured["ideal"], 3)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
