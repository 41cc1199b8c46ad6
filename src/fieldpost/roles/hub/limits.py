"""Bounds of a session that are not for settings: they protect the process, whatever the installation looks like."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of each thing one session may have at once, where nothing else is said, and how long a wait may last."""

    #: Frames of the device that are worked on at once; past that nothing more is read from it.
    frames_in_hand: int = 64
    #: Bytes of these in all sessions together, and in all of one device; past either nothing more is read.
    in_hand_bytes: int = 64 * 2**20
    in_hand_bytes_per_device: int = 16 * 2**20
    #: Frames that wait to be sent; past either bound nothing more is done for the session.
    outbox_frames: int = 1000
    outbox_bytes: int = 2 * 2**20
    #: A frame that the device does not take in this time ends the session.
    send_seconds: float = 15.0
    #: A greeting whose answers are not here in this time goes without.
    greeting_seconds: float = 15.0
    #: How long the end of a session may take: last words, and the close itself.
    farewell_seconds: float = 2.0
    close_seconds: float = 2.0
    #: How often a session asks the ledger although nothing told it to.
    recheck_seconds: float = 30.0
    #: Pages of answers that the whole hub reads from the ledger at once.
    pages_in_hand: int = 4
    #: One device never takes more than this part of the places.
    device_share: float = 0.25
