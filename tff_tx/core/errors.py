"""The one exception that means: the user, not the program, can put this right; and others in a line."""

from __future__ import annotations

import re
from typing import Callable

# Control characters around the name of a setting: no text that people write has them, so whoever shows the message can
# find the names in it, whatever values stand beside them.
_OPEN, _CLOSE = "\x02", "\x03"
_NAME = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
_naming: Callable[[str], str] = str
_SAYS_NOTHING = ("Graph execution error", "Detected at node", "<stack traces unavailable>", "File ")


def name_settings(name_fn: Callable[[str], str] = str) -> None:
    """Sets how this process shows settings: by `name_fn` of their paths, such as "client.learning_rate"."""
    global _naming  # noqa: PLW0603 -- a process is a command line or none
    _naming = name_fn


class UserError(ValueError):
    """A mistake in a setting or in the data, said in one sentence.

    The message says what is wrong, where (setting, file and line), the value found and the remedy. Settings in it are
    made by `setting`. Programs print the message without a traceback and exit with code 2, and leave nothing
    half-written.
    """

    def __str__(self) -> str:
        return self.describe(_naming)

    def describe(self, name_fn: Callable[[str], str]) -> str:
        """The message, with settings shown as `name_fn` names them.

        Args:
          name_fn: From the path of a setting, such as "client.learning_rate", to its name where the message is shown.
        """
        return _NAME.sub(lambda match: name_fn(match[1]), super().__str__())

    def within(self, place: str = "") -> UserError:
        """The same error with the place (a file, a silo, a party) in front; settings in it stay settings."""
        return UserError(f"{place}: {self.args[0]}" if place else self.args[0])


class Interrupted(Exception):
    """A run ended early, by the user or because too few clients finished; the same command goes on from there."""


def setting(path: str) -> str:
    """The name of a setting in the message of a `UserError`.

    Args:
      path: Section and field of `tff_tx.config.RunConfig`, such as "client.learning_rate".
    """
    return f"{_OPEN}{path}{_CLOSE}"


def shown(text: str) -> str:
    """A text with the settings that `setting` made in it, as this process shows them."""
    return str(UserError(text))


def reason(error: Exception) -> str:
    """One-line summary of an error: the first informative line of TensorFlow's message."""
    lines = (line.strip() for line in (getattr(error, "message", None) or str(error)).splitlines())
    informative = next((line for line in lines if line and not line.startswith(_SAYS_NOTHING)), "")
    return f"{type(error).__name__}: {informative[:300]}" if informative else type(error).__name__
