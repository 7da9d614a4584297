"""What an e-mail address looks like; whether it is one, only a message sent there would tell."""

from __future__ import annotations

PATTERN = r"^[!-?A-~]+@[!-?A-~]+$"
MOST_LENGTH = 254
