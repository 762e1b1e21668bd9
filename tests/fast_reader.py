"""Prints the scalars of a folder as TensorBoard's fast reader has them; a process of its own, which it needs."""

import json
import sys

from tensorboard.context import RequestContext
from tensorboard.data.server_ingester import SubprocessServerDataIngester, get_server_binary
from tensorboard.util.grpc_util import ChannelCredsType

server = SubprocessServerDataIngester(
    server_binary=get_server_binary(),
    logdir=sys.argv[1],
    reload_interval=1,
    channel_creds_type=ChannelCredsType.LOCAL,
)
server.start()
scalars = {"ctx": RequestContext(), "experiment_id": "", "plugin_name": "scalars"}
series = server.data_provider.list_scalars(**scalars)
values = server.data_provider.read_scalars(**scalars, downsample=10)
print(
    json.dumps(
        {
            run: {
                tag: [own.description, [[v.step, v.value] for v in values[run][tag]]]
                for tag, own in tags.items()
            }
            for run, tags in series.items()
        }
    )
)
