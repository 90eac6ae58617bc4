"""From a changed row to a browser's bar: `feed` tells what changed, `hub` who watches it, `sockets` delivers."""
