"""Fetches a URL, follows redirects, and prints the answer.

Run:  python -m silly examples/http_get.py --url=http://127.0.0.1:8080/
"""

import silly
from silly import env
from silly.net import http

response, err = http.get(env.get("url") or "http://127.0.0.1:8080/", redirects=5, timeout=10_000)
if response is None:
    print(err, flush=True)
    silly.exit(1)
print(response.status, response.reason)
for name, value in response.header.items():
    print(f"{name}: {value}")
print()
print(response.text, flush=True)
