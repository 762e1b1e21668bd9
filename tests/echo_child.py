"""A child that says its message back; "die" ends it, "sleep" keeps it, "quiet" has no answer."""

import os
import signal
import time

from fnet_callbacks.worker.process import serve


def answer(message):
    if message == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if message == "sleep":
        time.sleep(600)
    if message == "threads":
        return os.environ["NUMBA_NUM_THREADS"]
    return None if message == "quiet" else message


if __name__ == "__main__":
    serve(answer)
