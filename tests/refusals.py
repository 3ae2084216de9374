"""Tests of calls that must be refused with a message that helps."""

import re

import pytest


def refuses(error, calls, literal=False):
    """A test with one case for each `(call, words)`: the call raises `error`, and its message matches `words`.

    `words` is a regular expression, or plain text if `literal`.
    """

    @pytest.mark.parametrize(("call", "words"), calls, ids=[words for _, words in calls])
    def test(call, words):
        with pytest.raises(error, match=re.escape(words) if literal else words):
            call()

    return test
