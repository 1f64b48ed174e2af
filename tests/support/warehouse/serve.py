"""fakesnow (Snowflake's protocol and SQL over DuckDB) with what it lacks of the service, and with faults.

Added: a login is by key pair only, and its token is looked at; an open transaction of a session that has said nothing
for two seconds is aborted when another one begins, as Snowflake does after five minutes with one that is in the way; that
session is over then. Faults are set by POST /_faults, counted in GET /_counts; POST /_sql runs a statement for the tests. A lie
makes the service break its word, so that it is seen that the tests would see it.

    serve.py PORT FINGERPRINT
"""

import asyncio
import base64
import importlib
import json
import logging
import random
import re
import sys
import time
import warnings

import uvicorn
from starlette.concurrency import run_in_threadpool

# The package has a function of the same name.
server = importlib.import_module("fakesnow.server")

# Its own MERGE goes through a temporary table, which DuckDB does not allow within a transaction; DuckDB has one itself.
importlib.import_module("fakesnow.transforms").merge = lambda statement: [statement]

FINGERPRINT = sys.argv[2]
IDLE_S = 2.0

chance = random.Random(7)
faults, counts = {}, {}
# The time of each session's last word, of those with an open transaction; sessions that were ended.
open_since, over = {}, set()
# Sessions that a statement is run in: they are not idle.
busy = set()
# Results that are asked for later.
held = {}


def count(what):
    counts[what] = counts.get(what, 0) + 1


def falls(what):
    if chance.random() < faults.get(what, 0):
        count(what)
        return True
    return False


async def answer(send, status, body):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read(receive):
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def ask_fakesnow(scope, body):
    """What fakesnow itself says: status and body."""
    said = {"body": b""}

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        if message["type"] == "http.response.start":
            said["status"] = message["status"]
        else:
            said["body"] += message.get("body", b"")

    try:
        await server.app(scope, receive, send)
    except Exception as error:  # the app has answered 500 and raises what it was
        said.setdefault("status", 500)
        said["body"] = said["body"] or json.dumps({"message": str(error)}).encode()
    return said["status"], said["body"]


def refused(code, message):
    return {"data": None, "code": code, "message": message, "success": False}


def login_fault(body):
    data = json.loads(body)["data"]
    if "PASSWORD" in data or data.get("AUTHENTICATOR") != "SNOWFLAKE_JWT":
        return "no key pair"
    claims = data["TOKEN"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    if claims["sub"] != "MYORG-ACCOUNT1.SVC" or not claims["iss"].endswith("SHA256:" + FINGERPRINT):
        return f"not the token of the user's key: {claims['iss']}"
    if data["SESSION_PARAMETERS"].get("TIMEZONE") != "UTC":
        return "a session in no time zone"
    return None


def run(statement):
    """Runs a statement of a test."""
    connection = server.shared_fs.connect("GEMBA", "HISTORY")
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        return [[None if value is None else str(value) for value in row] for row in cursor.fetchall()]
    finally:
        connection.close()


async def end(token):
    """Ends a session, and with it what is open in it."""
    over.add(token)
    was_open = open_since.pop(token, None)
    connection = server.sessions.pop(token, None)
    if connection and was_open:
        await run_in_threadpool(lambda: connection.cursor().execute("ROLLBACK"))


async def abort_idle(token):
    now = time.monotonic()
    for other, since in list(open_since.items()):
        if other in open_since and other != token and other not in busy and now - since > IDLE_S:
            count("aborted")
            await end(other)


async def merge(token, statement):
    """A MERGE by DuckDB's own: its effect, without counts."""
    connection = server.sessions.get(token)
    if not connection:
        return 200, json.dumps(refused("390104", "User must login again to access the service.")).encode()
    try:
        await run_in_threadpool(lambda: connection.cursor().execute(statement, server=True))
    except Exception as error:
        return 500, json.dumps({"message": str(error)}).encode()
    column = {"name": "number of rows inserted", "type": "fixed", "nullable": False}
    data = {"parameters": [], "rowtype": [column], "rowset": [["0"]], "total": 1, "queryId": "merge"}
    return 200, json.dumps({"data": data, "success": True}).encode()


def lose_row(token):
    """The newest of the readings that were inserted is gone again."""
    newest = "SELECT MAX(SEQ) FROM GEMBA.HISTORY.SENSOR_READINGS_RAW"
    server.sessions[token].cursor().execute(f"DELETE FROM GEMBA.HISTORY.SENSOR_READINGS_RAW WHERE SEQ = ({newest})")


async def query(scope, body, send):
    headers = dict(scope["headers"])
    token = headers.get(b"authorization", b"").decode()[17:-1]
    asked = json.loads(body)
    statement = asked["sqlText"]
    word = statement.split(None, 1)[0].upper()
    count(word)
    if "SET LAST_SEQ" in statement:
        count("advance")
    if not asked.get("parameters", {}).get("QUERY_TAG", "").startswith("gemba"):
        count("untagged")
    if token in over:
        return await answer(send, 200, refused("390112", "Your session has expired. Please login again."))
    if falls("expired"):
        await end(token)
        return await answer(send, 200, refused("390112", "Your session has expired. Please login again."))
    if falls("busy"):
        return await answer(send, 503, {"message": "busy"})
    if falls("error_before"):
        return await answer(send, 502, b"<html>bad gateway</html>")
    if faults.get("poison") and faults["poison"] in statement and "INTO GEMBA.HISTORY.SENSOR_READINGS_RAW" in statement:
        count("poison")
        return await answer(send, 200, refused("100078", "String is too long and would be truncated"))
    lie = faults.get("lie")
    if lie == "offset_forgotten" and "SET LAST_SEQ" in statement:
        # One row was updated, it says.
        forgotten = re.sub(r"SET LAST_SEQ = \d+", "SET LAST_SEQ = LAST_SEQ", statement)
        forgotten = re.sub(r"AND LAST_SEQ = \d+", "", forgotten)
        body = json.dumps({**asked, "sqlText": forgotten}).encode()
    if word == "BEGIN":
        await abort_idle(token)
    if word == "BEGIN" or token in open_since:
        open_since[token] = time.monotonic()
    if faults.get("slow_ms"):
        await asyncio.sleep(faults["slow_ms"] / 1000)
    busy.add(token)
    try:
        status, said = await (merge(token, statement) if word == "MERGE" else ask_fakesnow(scope, body))
    finally:
        busy.discard(token)
    if lie == "row_lost" and word == "INSERT" and status == 200 and token in open_since:
        await run_in_threadpool(lose_row, token)
    if token in open_since:
        open_since[token] = time.monotonic()
    if word in ("COMMIT", "ROLLBACK"):
        open_since.pop(token, None)
    if status >= 500:
        count("conflict")
    if falls("lost_answer"):
        return await answer(send, 504, b"<html>gateway timeout</html>")
    if falls("in_progress"):
        name = str(len(held) + 1)
        held[name] = {"answer": (status, said), "asked": 0}
        return await answer(send, 200, in_progress(name))
    await answer(send, status, said)


def in_progress(name):
    data = {"getResultUrl": f"/queries/{name}/result", "queryId": name}
    return {"code": "333334", "message": "in progress", "success": True, "data": data}


async def app(scope, receive, send):
    if scope["type"] != "http":
        return await server.app(scope, receive, send)
    path, body = scope["path"], await read(receive)
    if path == "/_faults":
        faults.clear()
        faults.update(json.loads(body))
        return await answer(send, 200, {})
    if path == "/_counts":
        return await answer(send, 200, counts)
    if path == "/_sql":
        try:
            return await answer(send, 200, {"rows": await run_in_threadpool(run, body.decode())})
        except Exception as error:
            return await answer(send, 400, {"error": str(error)})
    if path == "/session/v1/login-request":
        count("login")
        if fault := login_fault(body):
            return await answer(send, 200, refused("390144", f"JWT token is invalid. {fault}"))
    if path == "/queries/v1/query-request":
        return await query(scope, body, send)
    if path.startswith("/queries/") and path.endswith("/result"):
        name = path.split("/")[2]
        held[name]["asked"] += 1
        # Still running the first time.
        if held[name]["asked"] == 1:
            return await answer(send, 200, in_progress(name))
        return await answer(send, *held[name]["answer"])
    if path == "/session":
        token = dict(scope["headers"]).get(b"authorization", b"").decode()[17:-1]
        await end(token)
        return await answer(send, 200, {"data": None, "code": None, "message": None, "success": True})
    await answer(send, *await ask_fakesnow(scope, body))


warnings.simplefilter("ignore")
server.logger.setLevel(logging.ERROR)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
