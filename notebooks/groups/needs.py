"""The error of this package."""


class GroupsError(Exception):
    """Something can't be done; the message is a sentence for the reader."""
