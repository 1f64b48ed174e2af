"""Sends rows with Snowflake's streaming client and waits until the last one's offset is committed.

Usage: checkpoint_sdk.py URL KEY_FILE ROWS
"""
import sys
import time

from snowflake.ingest.streaming import StreamingIngestClient

url, key_file, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(key_file, encoding="ascii") as file:
    key = file.read()
client = StreamingIngestClient(
    client_name="official",
    db_name="GEMBA",
    schema_name="HISTORY",
    pipe_name="JOB_TRACKING-STREAMING",
    properties={"account": "myorg-account1", "user": "svc", "url": url, "private_key": key},
)
channel, _ = client.open_channel("official.1")
for seq in range(1, rows + 1):
    channel.append_row(
        {
            "TENANT_ID": "acme",
            "SHARD": 0,
            "SEQ": seq,
            "JOB_ID": f"job-{seq % 7}",
            "LOCATION": "cell-1",
            "SCAN_TS": "2026-11-23T07:57:28.560",
            "RECEIVED_TS": "2026-11-23T07:57:29.000",
            "READER_ID": None,
            "PRODUCT_ID": None,
            "PRODUCT_VARIANT": None,
            "OPERATOR_ID": None,
            "COMPLETES": False,
            "RETRACTS": False,
            "METADATA": None,
            "MESSAGE_ID": f"m-{seq}",
        },
        f"{seq:020}",
    )
last = f"{rows:020}"
deadline = time.monotonic() + 60
while channel.get_latest_committed_offset_token() != last:
    if time.monotonic() > deadline:
        sys.exit(f"not committed after 60 s: {channel.get_latest_committed_offset_token()}")
    time.sleep(0.1)
client.close()
