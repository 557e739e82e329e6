#!/usr/bin/python3
"""Prints what clients sent on each TCP connection of a capture, one connection after the other:

    tcpdump -i br0 -U -s 0 -w FILE 'tcp dst port 80'      in the namespace of a boot test
    heads.py FILE DIRECTORY                               writes DIRECTORY/1.http, 2.http, ...
"""
import pathlib
import struct
import sys

data = pathlib.Path(sys.argv[1]).read_bytes()
target = pathlib.Path(sys.argv[2])
streams, at = {}, 24
while at < len(data):
    length = struct.unpack_from("<I", data, at + 8)[0]
    packet = data[at + 16 + 14 : at + 16 + length]
    at += 16 + length
    if packet[0] >> 4 == 4:
        source, packet = packet[12:16], packet[(packet[0] & 15) * 4 : struct.unpack_from(">H", packet, 2)[0]]
    else:
        source, packet = packet[8:24], packet[40 : 40 + struct.unpack_from(">H", packet, 4)[0]]
    port, _, sequence = struct.unpack_from(">HHI", packet)
    flags, payload = packet[13], packet[(packet[12] >> 4) * 4 :]
    if flags & 2:
        streams[source, port] = (sequence + 1, {})
    elif payload and (source, port) in streams:
        start, pieces = streams[source, port]
        pieces[(sequence - start) % 2**32] = payload
number = 0
for _, pieces in streams.values():
    sent = bytearray()
    for offset, payload in sorted(pieces.items()):
        if offset == len(sent):
            sent += payload
    if sent:
        number += 1
        (target / f"{number}.http").write_bytes(sent)
