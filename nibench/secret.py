"""The secret of a hidden round: what decides it, and the hash that commits to it."""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from nibench.errors import InputError
from nibench.rounds import round_id

TAG = b"nibench hidden round 1\0"  # what is hashed with the secret is nothing else's hash
LEAST_DIGITS = 32  # hexadecimal: 128 bits
LEAST_DIFFERENT = 8  # of 32 random digits fewer are different once in ten million times
HOW = "Make one: python -c 'import secrets; print(secrets.token_hex(32))' > round.secret"
KEPT = ".kept"  # the folder beside the secret: its name with this ending


@dataclass(frozen=True)
class Secret:
    """The bytes that decide a round, and where they lie."""

    path: Path
    digits: bytes

    @property
    def commitment(self) -> str:
        """SHA-256 over a tag and the secret: says nothing of it, and fits no other."""
        return hashlib.sha256(TAG + self.digits).hexdigest()

    @property
    def kept(self) -> Path:
        """Where the truth is kept: beside the secret, for it is as secret."""
        return self.path.with_name(self.path.name + KEPT)

    def name(self, kind: str, number: int) -> str:
        """``world1-1a2b3c4d``: the round's id is in the name of each of its tasks and models."""
        return f"{kind}{number}-{round_id(self.commitment)}"

    def seed(self, *what: object) -> int:
        """A number that only the secret gives (62 bits: what torch and all generators take)."""
        message = TAG + " ".join(map(str, what)).encode()
        return int.from_bytes(hmac.digest(self.digits, message, "sha256")[:8], "big") >> 2


def read_secret(path: Path) -> Secret:
    """The secret in a file: 32 hexadecimal digits or more.

    Raises
    ------
    InputError
        If the file is not there, or holds anything else or less.
    """
    try:
        text = Path(path).read_text(encoding="ascii").strip().lower()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"No secret in {path}: expected a file of hexadecimal digits. {HOW}") from None
    if set(text) - set("0123456789abcdef"):
        raise InputError(f"{path} is no secret: expected hexadecimal digits and nothing else. {HOW}")
    if len(text) < LEAST_DIGITS or len(set(text)) < LEAST_DIFFERENT:
        raise InputError(
            f"{path} can be guessed: {4 * len(text)} bits, {len(set(text))} different digits; expected 128 random "
            f"bits or more. {HOW}"
        )
    return Secret(Path(path), text.encode())
