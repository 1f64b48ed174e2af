"""Reads a history folder with DuckDB and with Polars and prints what both count, as one line of JSON.

Usage: history.py FOLDER TENANT, or history.py --file FILE for an export.
"""
import glob
import json
import sys

import duckdb
import polars

folder, tenant = sys.argv[1], sys.argv[2]


def of_file(path):
    counts = duckdb.sql(f"SELECT count(*), sum(value) FILTER (WHERE metric = 'good_count') FROM read_parquet('{path}')").fetchall()[0]
    twins = duckdb.sql(f"SELECT DISTINCT twin FROM read_parquet('{path}') ORDER BY 1").fetchall()
    frame = polars.read_parquet(path)
    return {
        "duckdb": {"rows": counts[0], "twins": [twin for (twin,) in twins], "sum": counts[1]},
        "polars": {
            "rows": frame.height,
            "twins": frame["twin"].unique().sort().to_list(),
            "sum": frame.filter(polars.col("metric") == "good_count")["value"].sum(),
        },
    }


def files(kind):
    return f"{folder}/tenant={tenant}/kind={kind}/*/*.parquet"


ALARMS = ["twin", "rule", "event", "state", "priority", "message", "value", "done_by", "comment"]


def alarms_with_duckdb():
    rows = duckdb.sql(
        f"SELECT {', '.join(ALARMS)} FROM read_parquet('{files('alarms')}') ORDER BY shard, seq"
    ).fetchall()
    return [list(row) for row in rows]


def alarms_with_polars():
    return [list(row) for row in polars.read_parquet(files("alarms")).sort("shard", "seq").select(ALARMS).rows()]


def with_duckdb():
    readings = duckdb.sql(
        f"""SELECT count(*), count(DISTINCT message_id), round(sum(value), 6)
            FROM read_parquet('{files("readings")}', hive_partitioning = true) WHERE metric = 'good_count'"""
    ).fetchall()[0]
    scans = duckdb.sql(f"SELECT count(*) FROM read_parquet('{files('scans')}')").fetchall()[0]
    minutes = duckdb.sql(
        f"""SELECT sum(count), sum(increase) FROM read_parquet('{files("rollups")}')
            WHERE metric = 'good_count' AND step = '1d'"""
    ).fetchall()[0]
    states = duckdb.sql(f"SELECT count(DISTINCT twin) FROM read_parquet('{files('states')}')").fetchall()[0]
    return {
        "rows": readings[0],
        "messages": readings[1],
        "sum": readings[2],
        "scans": scans[0],
        "rollup_count": int(minutes[0]),
        "rollup_increase": minutes[1],
        "twins": states[0],
    }


def with_polars():
    readings = polars.read_parquet(files("readings")).filter(polars.col("metric") == "good_count")
    rollups = polars.read_parquet(files("rollups")).filter(
        (polars.col("metric") == "good_count") & (polars.col("step") == "1d")
    )
    return {
        "rows": readings.height,
        "messages": readings["message_id"].n_unique(),
        "sum": round(readings["value"].sum(), 6),
        "scans": polars.read_parquet(files("scans")).height,
        "rollup_count": rollups["count"].sum(),
        "rollup_increase": rollups["increase"].sum(),
        "twins": polars.read_parquet(files("states"))["twin"].n_unique(),
    }


if folder == "--file":
    print(json.dumps(of_file(tenant)))
elif glob.glob(files("alarms")):
    print(json.dumps({"duckdb": alarms_with_duckdb(), "polars": alarms_with_polars()}))
else:
    print(json.dumps({"duckdb": with_duckdb(), "polars": with_polars()}))
