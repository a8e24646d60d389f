"""Why a secure sum ends without a result."""


class SecureSumError(RuntimeError):
    """A party ends the session: one sentence on what was wrong. Whoever raises it has erased its secrets."""


class MalformedMessageError(SecureSumError):
    """Bytes that are no message of this protocol, or a message that exceeds its bounds."""
