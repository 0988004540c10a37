"""The connection of a process that runs many stages: frames that bring descriptors along."""

from __future__ import annotations

import socket
import struct

from pivot._protocol import ChannelClosed, Message, decode, encode


class Connection(socket.socket):
    """One end of it, made of a descriptor that this process was given."""

    def __init__(self, fd: int) -> None:
        super().__init__(fileno=fd)

    def tell(self, frame: Message) -> None:
        """Sends one frame, or raises :class:`ChannelClosed`."""
        body = encode(frame)
        try:
            self.sendall(struct.pack("<I", len(body)) + body)
        except OSError as error:
            raise ChannelClosed from error

    def hear(self) -> tuple[Message, list[int]]:
        """One frame, and the descriptors that came with its first bytes."""
        header, descriptors = b"", []
        while len(header) < 4:
            part, came, _, _ = socket.recv_fds(self, 4 - len(header), 8)
            if not part:
                raise ChannelClosed
            header += part
            descriptors += came
        (rest,) = struct.unpack("<I", header)
        parts = []
        while rest:
            part = self.recv(min(rest, 1 << 20))
            if not part:
                raise ChannelClosed
            parts.append(part)
            rest -= len(part)
        return decode(b"".join(parts)), descriptors
