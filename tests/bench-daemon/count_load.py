#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""count_load.py PORT CLIENTS PIPELINE REQUESTS WORD... - one request again and again, the replies counted by their bytes.

For long replies, where a client that reads each item is busier than the server: this one only receives. All replies
must be of one length, which is found first. Prints the requests a second."""

import select
import socket
import sys
import time

from rig import encode


def length_of_reply(port, request):
    """Of the bytes before the PONG that follows."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(request + encode("PING"))
        data = b""
        while not data.endswith(b"+PONG\r\n"):
            data += client.recv(1 << 20)
        return len(data) - len(b"+PONG\r\n")


def main(port, clients, pipeline, requests, request):
    batch, expected = request * pipeline, length_of_reply(port, request) * pipeline
    poll, sockets, room = select.epoll(), {}, bytearray(1 << 20)
    for _ in range(clients):
        client = socket.create_connection(("127.0.0.1", port))
        sockets[client.fileno()] = client
        poll.register(client, select.EPOLLIN)
    left, waited, began = requests // pipeline, {}, time.perf_counter()
    for number, client in sockets.items():
        client.sendall(batch)
        waited[number] = expected
    done = 0
    while done < left:
        for number, _ in poll.poll():
            waited[number] -= sockets[number].recv_into(room)
            if waited[number] == 0:
                done += 1
                sockets[number].sendall(batch)
                waited[number] = expected
    print(done * pipeline / (time.perf_counter() - began))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), encode(*sys.argv[5:]))
