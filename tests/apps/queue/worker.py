"""Takes a job at a time and does it. A job is in a list of the worker's own until it is done, so none is lost."""

import socket
import sys

import redis

queue = redis.Redis("redis", decode_responses=True)
mine = "taken:" + socket.gethostname()

# What this worker had taken when it ended goes first. What ended it is not tried again.
for job in queue.lrange(mine, 0, -1):
    queue.lrem(mine, 1, job)
    queue.rpush("failed" if job == "poison" else "jobs", job)
print("ready", flush=True)

while True:
    job = queue.blmove("jobs", mine, 0, "LEFT", "RIGHT")
    if job == "poison":
        print("cannot do this job", file=sys.stderr, flush=True)
        sys.exit(3)
    transaction = queue.pipeline()
    transaction.sadd("done", job)
    transaction.sadd("workers", socket.gethostname())
    transaction.lrem(mine, 1, job)
    transaction.execute()
    print("did", job, flush=True)
