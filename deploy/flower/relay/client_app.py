"""At a participant: hands a message to the participant's process, over a Unix socket, and gives back its reply.

SuperNodes start it anew for every message. The socket is the SuperNode's --node-config 'socket="PATH"'.
"""

import time
from multiprocessing.connection import Client

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from relay import FIELD, RECORD

app = ClientApp()


@app.query()
def relay(message: Message, context: Context) -> Message:
    """Replies what the participant replies; nothing while there is none."""
    try:
        with Client(str(context.node_config["socket"]), "AF_UNIX") as participant:
            participant.send_bytes(message.content[RECORD][FIELD])
            reply = participant.recv_bytes()
    except (OSError, EOFError):
        time.sleep(2)
        reply = b""
    return Message(RecordDict({RECORD: ConfigRecord({FIELD: reply})}), reply_to=message)
