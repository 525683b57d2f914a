"""What a user is told when the input is wrong: what came, what was expected, what to type."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Wrong input. The message is one clear line; the command line prints it and exits with 2."""


def unknown(kind: str, name: str, options: Iterable[str], remedy: str = "") -> InputError:
    """The error for a name that does not exist, with the nearest names that do."""
    near = get_close_matches(name, list(options), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"No {kind} named {name!r}.{hint}{' ' + remedy if remedy else ''}")


class NotCertified(InputError):
    """Too little of what was trained holds for a truth model: another seed may do better."""


class TooFewClasses(InputError):
    """Too few items for two classes of a task: where there are other tasks, it is left out and named."""
