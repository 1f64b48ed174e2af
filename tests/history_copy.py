"""Makes a bucket at an S3 endpoint, or compares what it holds with a folder, as one line of JSON.

Usage: history_copy.py ENDPOINT make BUCKET, or history_copy.py ENDPOINT compare BUCKET FOLDER.
"""
import hashlib
import json
import pathlib
import sys

import boto3

endpoint, what, bucket = sys.argv[1:4]
s3 = boto3.client(
    "s3", endpoint_url=endpoint, region_name="eu-central-1", aws_access_key_id="gemba", aws_secret_access_key="s3cret"
)
if what == "make":
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    sys.exit(0)
there = {}
for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
    for item in page.get("Contents", []):
        body = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        there[item["Key"]] = hashlib.sha256(body).hexdigest()
root = pathlib.Path(sys.argv[4])
here = {
    str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in root.glob("tenant=*/kind=*/date=*/*.parquet")
}
print(json.dumps({"there": there, "here": here}))
