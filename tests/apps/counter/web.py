"""Counts: GET tells, POST adds one. The count is PostgreSQL's, the hits are Redis'."""

import os
import socket

import flask
import psycopg2
import redis

app = flask.Flask(__name__)
memory = redis.Redis(os.environ["MEMORY"])


def database():
    with open("/run/secrets/password", encoding="utf-8") as file:
        password = file.read()
    connection = psycopg2.connect(
        host=os.environ["DATABASE"], user="counter", dbname="counter", password=password, connect_timeout=60
    )
    connection.autocommit = True
    return connection


@app.route("/", methods=["GET", "POST"])
def count():
    connection = database()
    try:
        cursor = connection.cursor()
        if flask.request.method == "POST":
            cursor.execute("INSERT INTO counted DEFAULT VALUES")
        cursor.execute("SELECT count(*) FROM counted")
        counted = cursor.fetchone()[0]
    finally:
        connection.close()
    return {"count": counted, "hits": memory.incr("hits"), "host": socket.gethostname()}


@app.route("/health")
def health():
    memory.ping()
    return "well\n"


app.run(host="0.0.0.0", port=8000, threaded=True)
