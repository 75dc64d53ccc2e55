"""Two tasks that hand a number back and forth over channels.

Run:  python -m silly examples/pingpong_channel.py [--rounds=5]     or   python examples/pingpong_channel.py
"""

import silly
from silly import env, task
from silly.sync import channel

ROUNDS = int(env.get("rounds") or 5)


def player(name, mine, other):
    while True:
        number, err = mine.pop()
        if number is None:
            print(f"{name}: {err}")
            break
        print(f"{name}: {number}")
        if number == ROUNDS:
            other.close("game over")
            break
        other.push(number + 1)


ping, pong = channel.new(), channel.new()
task.fork(lambda: player("ping", ping, pong))
task.fork(lambda: player("pong", pong, ping))
ping.push(0)
silly.run()
