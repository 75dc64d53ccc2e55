"""Asks many addresses at once, some at a time, and prints what each has answered.

    python -m silly examples/poll.py --urls=urls.txt [--limit=20] [--tries=3] [--budget=10000]

An answer 429 or 503 and an error of the network are tried again, later each time. After
`budget` ms what is not answered yet is given up. The status is 1 if any address failed.
"""

import random
from collections import Counter
from pathlib import Path

import silly
from silly import env, task, time
from silly.net import http

LIMIT = int(env.get("limit") or 20)
TRIES = int(env.get("tries") or 3)
BUDGET = int(env.get("budget") or 10_000)
PAUSE = 100  # ms before the second try; it doubles each time

client = http.newclient(timeout=2000, connect_timeout=1000)


def ask(url):
    """One address: `(url, status, None)`, or `(url, None, err)` after the last try."""
    for attempt in range(TRIES):
        pause = PAUSE * 2**attempt * random.uniform(0.5, 1)
        answer, err = client.get(url)
        if answer is not None:
            if answer.status not in (429, 503):
                return url, answer.status, None
            err = f"answers {answer.status}"
            after = answer.header["retry-after"] or ""
            pause = max(pause, int(after) * 1000 if after.isdecimal() else 0)
        if attempt < TRIES - 1:
            time.sleep(pause)
    return url, None, err


def main():
    urls = Path(env.get("urls") or "urls.txt").read_text().split()
    count = Counter()
    try:
        with time.deadline(BUDGET):
            for url, status, err in task.map(ask, urls, LIMIT, ordered=False):
                print(f"{url}: {status or err}", flush=True)
                count["failed" if err else "answered"] += 1
    except TimeoutError:
        count["given up"] = len(urls) - count.total()  # leaving the loop has cancelled them
    print(", ".join(f"{number} {word}" for word, number in sorted(count.items())), flush=True)
    silly.exit(0 if count.total() == count["answered"] else 1)


if __name__ == "__main__":
    main()
