"""Beside the coordinator: takes from its Unix socket what is for each node, and tells it what nodes reply.

The socket is the run's: flwr run deploy/flower --run-config 'socket="PATH"'. It stays until the run is stopped.
"""

import time
from multiprocessing.connection import Client

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

from relay import FIELD, RECORD

app = ServerApp()
_LOOK_SECONDS = 3.0  # nodes come and go


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Relays to one coordinator after another."""
    while True:
        try:
            with Client(str(context.run_config["socket"]), "AF_UNIX") as coordinator:
                _relay(grid, coordinator, float(context.run_config["seconds"]))
        except (OSError, EOFError):  # it is gone, or has not come yet
            time.sleep(1)


def _relay(grid, coordinator, seconds) -> None:
    awaited, replies = {}, {}  # messages' nodes and time limits; what nodes have replied
    nodes, looked = [], -_LOOK_SECONDS
    while True:
        if time.monotonic() > looked + _LOOK_SECONDS:
            nodes, looked = list(grid.get_node_ids()), time.monotonic()
        for node in nodes:
            if node in {waiting for waiting, _ in awaited.values()}:
                continue
            state, reply = replies.pop(node, ("idle", b""))
            coordinator.send_bytes(f"{node} {state}".encode())
            coordinator.send_bytes(reply)
            if exchange := coordinator.recv_bytes():
                content = RecordDict({RECORD: ConfigRecord({FIELD: exchange})})
                message = Message(content, node, MessageType.QUERY, ttl=seconds)
                (identifier,) = grid.push_messages([message])
                awaited[identifier] = node, time.monotonic() + seconds
        for message in grid.pull_messages(list(awaited)) if awaited else ():
            node, _ = awaited.pop(message.metadata.reply_to_message_id, (None, 0.0))
            replies[node] = ("lost", b"") if message.has_error() else ("reply", message.content[RECORD][FIELD])
        for identifier, (node, limit) in list(awaited.items()):
            if time.monotonic() > limit:
                del awaited[identifier]
                replies[node] = "lost", b""
        time.sleep(0.2)
