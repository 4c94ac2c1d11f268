"""Books in a file of SQLite: prepared once, added to by jobs, served to who knows the token."""

import http.server
import sqlite3
import sys


def store():
    return sqlite3.connect("/store/books")


def titles():
    return [title for (title,) in store().execute("SELECT title FROM books ORDER BY title")]


class Shelf(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open("/run/secrets/shelf-token", encoding="utf-8") as file:
            known = self.headers["Authorization"] == "Bearer " + file.read()
        body = ("\n".join(titles()) + "\n").encode() if known else b"who are you?\n"
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


what, *words = sys.argv[1:]
if what == "prepare":
    with open("/etc/books/schema.sql", encoding="utf-8") as schema:
        store().executescript("DROP TABLE IF EXISTS books;" + schema.read())
elif what == "add":
    with store() as books:
        books.executemany("INSERT INTO books VALUES (?)", [(word,) for word in words])
elif what == "list":
    print("\n".join(titles()))
elif what == "serve":
    http.server.ThreadingHTTPServer(("", 8000), Shelf).serve_forever()
else:
    sys.exit(7)
