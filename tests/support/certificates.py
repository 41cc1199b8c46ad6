"""Certificates of an authority that a test makes itself, for engines on this machine."""

import os
import subprocess
from pathlib import Path

import msgspec

from fieldpost.cluster.users import User, make_directory

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Certificates(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine shows who connects, and whom it has to be trusted through; all in PEM."""

    authority: Path
    certificate: Path
    key: Path


def make(directory: Path, user: User | None) -> Certificates:
    """An authority of its own, and a certificate by it for 127.0.0.1; the engines' user can read them."""
    make_directory(directory, user)
    # Others read the authority.
    directory.chmod(0o711)
    made = Certificates(
        authority=directory / "authority.pem", certificate=directory / "server.pem", key=directory / "server.key"
    )
    authority_key = directory / "authority.key"
    _openssl(
        "req", "-x509", "-keyout", str(authority_key), "-out", str(made.authority), "-subj", "/CN=a test's authority",
        "-days", "2", *_NEW_KEY,
    )  # fmt: skip
    _openssl(
        "req", "-x509", "-CA", str(made.authority), "-CAkey", str(authority_key), "-keyout", str(made.key),
        "-out", str(made.certificate), "-subj", "/CN=an engine", "-addext", "subjectAltName=IP:127.0.0.1",
        "-addext", "basicConstraints=critical,CA:FALSE", "-days", "2", *_NEW_KEY,
    )  # fmt: skip
    for path in (made.certificate, made.key):
        path.chmod(0o600)
        if user is not None:
            os.chown(path, user.uid, user.gid)
    return made


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)
