"""Count the requests in a stream of bytes with an independent parser (h11). Pure."""

from dataclasses import dataclass

import h11

HEAD_MAX = 1 << 20  # bytes of one head that h11 reads; more than any case sends


@dataclass(frozen=True, slots=True)
class Reading:
    """The number of ``complete`` requests, each of which needs an answer; ``certain``: no parser can find more."""

    complete: int
    certain: bool


def read(stream: bytes) -> Reading:
    """Count the complete, well-formed requests up to the first that is not."""
    if not stream:  # h11 takes it for the end of the connection
        return Reading(0, certain=True)
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
    complete, last = 0, False
    try:
        server.receive_data(stream)
        while True:
            event = server.next_event()
            if isinstance(event, h11.Request):
                names = {name for name, _ in event.headers}
                # Both end a connection: RFC 9112, 6.1.
                both = {b"content-length", b"transfer-encoding"} <= names
                last = both or event.method == b"CONNECT"
            elif isinstance(event, h11.EndOfMessage):
                complete += 1
                server.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                server.send(h11.EndOfMessage())
                if last or server.our_state is not h11.DONE:  # "Connection: close", HTTP/1.0
                    return Reading(complete, certain=True)
                server.start_next_cycle()
            elif event is h11.NEED_DATA:
                between = server.their_state is h11.IDLE and not server.trailing_data[0]
                return Reading(complete, certain=between)
    except h11.ProtocolError:
        return Reading(complete, certain=False)
